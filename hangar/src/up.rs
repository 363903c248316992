//! `hangar up`: a whole node below one data directory, its daemons as supervised children.
//!
//! The daemons are separate programs so that each can die alone. Guests belong to shims of machine-runner and
//! outlive any of them; only a clean stop of the node stops them, and the next start brings them back.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use crashsafe::LockFile;
use tokio_util::sync::CancellationToken;

use crate::cli::up::UpArgs;
use crate::environment::Environment;
use crate::node::{Layout, NodeConfig, Programs, SOCKET_BYTES_MAX};

mod child;
mod config_files;
mod error;
mod guests;
mod orphans;
mod ready;
pub mod s3;

use child::{Child, Spec};
pub use error::UpError;

/// How long a daemon may take to end after SIGTERM: longer than its own grace for open requests and tasks.
const STOP_GRACE: Duration = Duration::from_secs(30);

/// Runs `hangar up` to its end.
pub fn main(arguments: UpArgs, environment: Environment) -> ExitCode {
    daemon::run("hangar-up", async move |context| {
        run(&arguments, &environment, context.shutdown).await
    })
}

async fn run(
    arguments: &UpArgs,
    environment: &Environment,
    shutdown: CancellationToken,
) -> Result<(), UpError> {
    let layout = Layout::new(environment.data_directory());
    prepare_directories(&layout)?;
    let _lock = LockFile::acquire(layout.below("run/up.lock")).map_err(UpError::Locked)?;
    let programs = Programs::beside_this_one().map_err(UpError::OwnPath)?;
    if let Some(path) = programs.missing().into_iter().next() {
        return Err(UpError::ProgramMissing { path });
    }
    orphans::end(&layout).await?;
    let node = config_files::load_or_create(&layout)?;
    let assets = programs.assets(arguments.assets.clone().or_else(|| environment.assets()));
    if !assets.join("vmlinux").is_file() {
        tracing::warn!(assets = %assets.display(), "no guest kernel there, machines will not start; run `cargo xtask setup`");
    }
    let mut children = Children::default();
    let started = start(
        &mut children,
        (&layout, &node, &programs),
        arguments,
        &assets,
        &shutdown,
    )
    .await;
    let result = match started {
        Ok(address) => {
            announce(&layout, address, &node)?;
            guests::resume(&layout).await;
            shutdown.cancelled().await;
            Ok(())
        }
        Err(UpError::Stopped) => Ok(()),
        Err(error) => Err(error),
    };
    if result.is_ok() && !arguments.keep_machines {
        guests::stop(&layout).await;
    }
    children.stop().await;
    // Clients then say that there is no node, instead of asking an address where nobody listens.
    result.and(remove_if_there(&address_file(&layout)))
}

/// The supervised children in the order of their start.
#[derive(Debug, Default)]
struct Children(Vec<Child>);

impl Children {
    fn start(&mut self, spec: Spec) {
        self.0.push(Child::start(spec));
    }

    /// Stops them in the opposite order, each before the next, so that none misses what it talks to.
    async fn stop(self) {
        for child in self.0.into_iter().rev() {
            child.stop(STOP_GRACE).await;
        }
    }
}

async fn start(
    children: &mut Children,
    (layout, node, programs): (&Layout, &NodeConfig, &Programs),
    arguments: &UpArgs,
    assets: &std::path::Path,
    shutdown: &CancellationToken,
) -> Result<SocketAddr, UpError> {
    let store = match &node.s3 {
        Some(external) => external.clone(),
        None => {
            let embedded = s3::prepare(layout, node)?;
            children.start(s3::child(layout, programs, &embedded));
            ready::wait_listening(children.0.last(), embedded.address, shutdown).await?;
            embedded.client_config()
        }
    };
    let listen = arguments.listen.as_deref().unwrap_or(&node.listen);
    config_files::write(
        layout,
        node,
        &config_files::Generated {
            store,
            assets,
            listen,
        },
    )?;
    // An address of an earlier run would tell clients where nobody listens.
    let address_file = address_file(layout);
    remove_if_there(&address_file)?;
    for daemon in crate::node::DAEMONS {
        let config = layout.config(daemon);
        let arguments = vec!["serve".into(), "--config".into(), config.into()];
        children.start(Spec::new(layout, daemon, programs.path(daemon), arguments));
    }
    for daemon in crate::node::DAEMONS {
        let child = children.0.iter().find(|child| child.name() == daemon);
        ready::wait_healthy(child, &layout.socket(daemon), shutdown).await?;
    }
    let text =
        std::fs::read_to_string(&address_file).map_err(|source| UpError::file(&address_file, source))?;
    text.trim().parse().map_err(|_| UpError::Address { text })
}

/// Tells people on standard output, in a form that programs can wait for too.
fn announce(layout: &Layout, address: SocketAddr, node: &NodeConfig) -> Result<(), UpError> {
    let store = match &node.s3 {
        Some(external) => external.endpoint.clone().unwrap_or_else(|| "AWS".to_owned()),
        None => format!("embedded, below {}", layout.below("s3").display()),
    };
    let text = format!(
        "ready: the Machines API listens on http://{address}\n  data          {}\n  token         {}\n  object store  {store}\n  logs          {}\n  try           hangar apps create my-app\n",
        layout.data().display(),
        layout.below("flaps/token").display(),
        layout.below("log").display(),
    );
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(UpError::Announce)
}

fn prepare_directories(layout: &Layout) -> Result<(), UpError> {
    let longest = layout.longest_socket();
    let bytes = longest.as_os_str().len();
    if bytes > SOCKET_BYTES_MAX {
        return Err(UpError::PathTooLong {
            data: layout.data().to_owned(),
            excess: bytes - SOCKET_BYTES_MAX,
        });
    }
    for name in ["", "run", "log", "s3", "volumed", "machine-runner", "flaps"] {
        let path = layout.below(name);
        private_directory(&path).map_err(|source| UpError::file(&path, source))?;
    }
    Ok(())
}

fn private_directory(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700))
}

fn address_file(layout: &Layout) -> PathBuf {
    layout.below("run/flaps.addr")
}

fn remove_if_there(path: &PathBuf) -> Result<(), UpError> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(UpError::file(path, source)),
    }
}

#[cfg(test)]
mod tests;
