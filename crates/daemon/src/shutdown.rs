//! SIGTERM and SIGINT, as a token and as a count.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// The two signals that ask a daemon to stop.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl StopSignals {
    /// Registers the handlers; from here on neither signal kills the process by itself.
    ///
    /// # Errors
    /// When the kernel refuses to register a handler.
    pub(crate) fn register() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Cancels `shutdown` at the first signal and returns at the second, when the user will not wait any longer.
    pub(crate) async fn cancel_then_insist(mut self, shutdown: CancellationToken) {
        let signal = self.next().await;
        info!(signal, "stop requested");
        shutdown.cancel();
        let signal = self.next().await;
        warn!(signal, "stop requested again");
    }
}
