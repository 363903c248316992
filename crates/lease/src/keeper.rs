//! An engine and where its lease is kept, in a task.

use std::{fmt::Debug, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use crate::{
    Answer, AskError, Engine, Grant, Holder, Input, NodeId, Progress, Provider, Refused, Request, Right,
    Settings, Standing, Step, View,
};

/// What the node says that waits to be heard.
const WAITING: usize = 16;

/// The node that wants a lease, or has it.
pub trait Subject: Send + Sync + Debug {
    /// Returns how far it has come.
    fn progress(&self) -> Progress;

    /// Returns which cluster it belongs to, if it does.
    fn cluster(&self) -> Option<String>;

    /// Returns which cluster the lease is to belong to, if nobody has said so yet: the same each time.
    fn proposes(&self) -> String;

    /// It is to belong to a cluster, if it belongs to none yet and gets the lease.
    fn adopts(&self, cluster: &str);
}

/// A lease as a node uses it. Clones are the same.
#[derive(Debug, Clone)]
pub struct Keeper {
    standing: watch::Receiver<Standing>,
    right: Arc<Right>,
    inputs: Option<mpsc::Sender<Input>>,
}

/// Why a lease is not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandOffError {
    /// It was given by hand.
    #[error("static lease does not support handoff")]
    Fixed,
    /// The node does not have it.
    #[error("node is not primary")]
    NotPrimary,
    /// It is let go already.
    #[error("the lease is being let go")]
    Leaving,
}

impl Keeper {
    /// Makes a lease that never changes: this node's, or another's.
    ///
    /// * `primary`: who the primary is, if it is another.
    #[must_use]
    pub fn fixed(primary: Option<Holder>) -> Self {
        let epoch = crate::Epoch::NONE;
        let (standing, right) = match primary {
            None => (Standing::Primary { epoch }, Right::forever()),
            Some(primary) => (Standing::Replica { primary, epoch }, Right::default()),
        };
        Self {
            // Nobody changes it.
            standing: watch::Sender::new(standing).subscribe(),
            right: Arc::new(right),
            inputs: None,
        }
    }

    /// Begins to want a lease, or to keep one.
    ///
    /// * `held`: a lease that was granted before, and when it was asked for.
    /// * `right`: what is kept true of it.
    ///
    /// Returns the task beside it, which ends when the lease was let go after [`stop`](Self::stop).
    pub fn start(
        provider: Arc<dyn Provider>,
        settings: Settings,
        subject: Arc<dyn Subject>,
        held: Option<(Grant, Instant)>,
        right: Arc<Right>,
    ) -> (Self, JoinHandle<()>) {
        let (standings, standing) = watch::channel(Standing::Nobody);
        let (inputs, received) = mpsc::channel(WAITING);
        let mut work = Work {
            provider,
            engine: match held {
                None => Engine::new(Instant::now().into_std(), settings),
                Some((grant, asked_at)) => Engine::holding(settings, grant, asked_at.into_std()),
            },
            subject,
            standings,
            inputs: received,
            right: Arc::clone(&right),
            refused: None,
        };
        work.publish();
        let task = daemon::spawn("lease", async move { work.run().await });
        let keeper = Self {
            standing,
            right,
            inputs: Some(inputs),
        };
        (keeper, task)
    }

    /// Returns what the node is, and what tells when that changes.
    #[must_use]
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Returns the right to acknowledge.
    #[must_use]
    pub fn right(&self) -> Arc<Right> {
        Arc::clone(&self.right)
    }

    /// Tells whether the lease never changes.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.inputs.is_none()
    }

    /// Begins to hand the lease over. From then on nothing is acknowledged here.
    ///
    /// # Errors
    /// The node has none that could be handed over.
    pub async fn hand_off(&self, to: NodeId) -> Result<(), HandOffError> {
        let inputs = self.inputs.as_ref().ok_or(HandOffError::Fixed)?;
        if !matches!(*self.standing.borrow(), Standing::Primary { .. }) {
            return Err(HandOffError::NotPrimary);
        }
        let sent = inputs.send(Input::HandOff(to)).await;
        sent.map_err(|_| HandOffError::Leaving)
    }

    /// Says something to the lease. One that never changes does not hear it.
    pub async fn say(&self, input: Input) {
        if let Some(inputs) = &self.inputs {
            // Who has let the lease go for good needs nothing more.
            let _gone = inputs.send(input).await;
        }
    }

    /// Lets the lease go, for good.
    pub async fn stop(&self) {
        self.say(Input::Stop).await;
    }
}

struct Work {
    provider: Arc<dyn Provider>,
    engine: Engine,
    subject: Arc<dyn Subject>,
    standings: watch::Sender<Standing>,
    inputs: mpsc::Receiver<Input>,
    right: Arc<Right>,
    refused: Option<Refused>,
}

impl Work {
    async fn run(&mut self) {
        loop {
            let now = Instant::now().into_std();
            self.engine
                .set_progress(self.subject.progress(), self.subject.cluster());
            let step = self.engine.next(now);
            self.publish();
            match step {
                Step::Stopped => return,
                Step::Wait(until) => {
                    tokio::select! {
                        biased;
                        input = self.inputs.recv() => self.hear(input),
                        () = sleep_until(Instant::from_std(until)) => {}
                    }
                }
                Step::Ask(request) => self.ask(request).await,
            }
            self.publish();
        }
    }

    fn hear(&mut self, input: Option<Input>) {
        // Whoever could say something is gone.
        let input = input.unwrap_or(Input::Stop);
        self.engine.handle(Instant::now().into_std(), input);
    }

    /// Asks, and meanwhile hears the node and lets go of what ends.
    async fn ask(&mut self, request: Request) {
        if let Request::Acquire(View {
            cluster: Some(cluster),
            ..
        }) = &request
        {
            self.subject.adopts(cluster);
        }
        let (provider, proposes) = (Arc::clone(&self.provider), self.subject.proposes());
        let patience = self.provider.timing().ttl;
        let progress = self.subject.progress();
        let asking = async move { timeout(patience, ask(&*provider, request, &proposes, progress)).await };
        tokio::pin!(asking);
        let answer = loop {
            let expires_at = self.engine.expires_at().map(Instant::from_std);
            let expires = async {
                match expires_at {
                    Some(until) => sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                answer = &mut asking => break answer,
                input = self.inputs.recv(), if !self.inputs.is_closed() => self.hear(input),
                () = expires => self.engine.expire(Instant::now().into_std()),
            }
            self.publish();
        };
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::warn!(error = %chain(&error), "lease was not reached");
                Answer::Failed
            }
            Err(_) => {
                tracing::warn!(after_ms = millis(patience), "lease was not reached in time");
                Answer::Failed
            }
        };
        self.engine.answer(Instant::now().into_std(), answer);
    }

    /// Tells everybody what the node is; the right comes last and goes first.
    fn publish(&mut self) {
        let right = self.engine.right();
        match self.engine.standing() {
            Standing::Primary { .. } => {}
            Standing::Leaving | Standing::HandingOver { .. } => self.right.close(),
            Standing::Nobody | Standing::Replica { .. } => self.right.revoke(),
        }
        if let Some(lost) = self.engine.take_lost() {
            tracing::warn!(error = %lost, "lease was lost");
        }
        let refused = self.engine.refused();
        if let Some(refused) = refused.filter(|_| refused != self.refused) {
            tracing::info!(reason = %refused, "lease is free, and not for this node");
        }
        self.refused = refused;
        let standing = self.engine.standing();
        self.standings.send_if_modified(|last| {
            let news = *last != standing;
            if news {
                tracing::info!(?standing, "role changed");
                *last = standing;
            }
            news
        });
        if let Some((epoch, until)) = right {
            self.right.grant(epoch, until);
        }
    }
}

async fn ask(
    provider: &dyn Provider,
    request: Request,
    proposes: &str,
    progress: Progress,
) -> Result<Answer, AskError> {
    Ok(match request {
        Request::Look => Answer::Looked(provider.look().await?),
        Request::Announce(seen, candidate) => {
            provider.announce(&seen, candidate).await?;
            Answer::Done
        }
        Request::Acquire(seen) => Answer::Granted(provider.acquire(&seen, proposes).await?),
        Request::Renew(grant) => Answer::Granted(provider.renew(&grant, progress).await?),
        Request::Release(grant) => {
            provider.release(&grant).await?;
            Answer::Done
        }
        Request::PassOn(grant, to) => Answer::PassedOn(provider.pass_on(&grant, &to).await?),
        Request::TakeOver(lease) => Answer::Granted(provider.take_over(&lease).await?),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Joins an error and its sources by `: `, outermost first.
fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests;
