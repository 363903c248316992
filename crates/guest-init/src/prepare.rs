//! From a configuration to a running workload.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;

use tokio::sync::oneshot;
use tokio::task::spawn_local;

use guest_init::proto::config::{GuestConfig, Mount};
use guest_init::proto::message::TtySize;
use guest_init::proto::{Event, StreamId};

use crate::cgroup::{self, Group};
use crate::files::{self, FileError};
use crate::guest::{Guest, Workload};
use crate::network::{self, NetworkError};
use crate::program::{self, DEFAULT_PATH, Descriptors, Program, ProgramError};
use crate::reaper::Ended;
use crate::rootfs::{self, RootfsError};
use crate::stream::{self, Stream};
use crate::swap::{self, SwapError};
use crate::user::{self, Identity, UserError};
use crate::volume::{self, Volume};
use crate::{clock, console, dns, exec};

/// Difference from the host's clock that is left alone at the start.
const CLOCK_TOLERANCE_MS: u64 = 1000;

/// Size of the workload's terminal, if it wants one.
const TERMINAL: TtySize = TtySize {
    rows: 24,
    columns: 80,
};

/// Why the workload did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// No root.
    #[error("root file system")]
    Rootfs(#[from] RootfsError),
    /// A volume; [`Event::VolumeError`] told which and why.
    #[error("volume {serial} is not usable")]
    Volume { serial: String },
    /// No network.
    #[error("network")]
    Network(#[from] NetworkError),
    /// A file.
    #[error("files")]
    File(#[from] FileError),
    /// No swap.
    #[error("swap")]
    Swap(#[from] SwapError),
    /// No such user.
    #[error("user")]
    User(#[from] UserError),
    /// No such program.
    #[error("workload")]
    Program(#[from] ProgramError),
    /// Anything else the kernel refused.
    #[error("{doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

impl StartError {
    /// Returns the exit code a shell would give.
    pub(crate) fn code(&self) -> i32 {
        match self {
            Self::Program(error) => error.code(),
            Self::Rootfs(_)
            | Self::Volume { .. }
            | Self::Network(_)
            | Self::File(_)
            | Self::Swap(_)
            | Self::User(_)
            | Self::Io { .. } => 125,
        }
    }
}

fn doing<E: Into<io::Error>>(doing: &'static str) -> impl FnOnce(E) -> StartError {
    move |source| StartError::Io {
        doing,
        source: source.into(),
    }
}

/// A workload that was just started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process.
    pub(crate) pid: i32,
    /// Will hold its end.
    pub(crate) ended: oneshot::Receiver<Ended>,
    /// The group it runs in.
    pub(crate) group: Group,
}

/// Prepares the machine as `config` says and starts the workload.
pub(crate) async fn start(guest: &Rc<Guest>, config: &GuestConfig) -> Result<Started, StartError> {
    set_clock(config);
    // The three have nothing to do with each other, and each waits for something.
    let (root, volumes, net) = tokio::join!(
        rootfs::assemble(&guest.reaper, &config.rootfs),
        prepare_volumes(guest, &config.mounts),
        network::set_up(&config.network),
    );
    root?;
    let volumes = volumes?;
    net?;
    rootfs::switch()?;
    rustix::system::sethostname(config.hostname.as_bytes()).map_err(doing("set the host name"))?;
    make_usual_directories().map_err(doing("make the usual directories"))?;
    let identity = identity(config)?;
    mount_volumes(guest, &volumes, &identity)?;
    files::write_identity(config)?;
    files::write_all(&config.files)?;
    if let Some(serial) = &config.swap {
        swap::start(serial).await?;
    }
    for name in guest.zone.replace(&config.names) {
        console::say(&format!("not a name: {name:?}"));
    }
    let upstream = config.network.user_net.as_ref().map(|net| net.dns);
    let server = dns::Server::new(Rc::clone(&guest.zone), upstream);
    server.start().await.map_err(doing("start the name server"))?;
    start_workload(guest, config, &identity)
}

/// The clock and the randomness get better with the host's help; without it the machine still works.
fn set_clock(config: &GuestConfig) {
    if let Some(unix_ms) = config.wall_clock_unix_ms {
        match clock::step(unix_ms, CLOCK_TOLERANCE_MS) {
            Ok(Some(off_ms)) => console::say(&format!("clock stepped by {off_ms} ms")),
            Ok(None) => {}
            Err(error) => console::say(&format!("set the clock: {error}")),
        }
    }
    if let Some(entropy) = &config.entropy
        && let Err(error) = clock::add_entropy(entropy)
    {
        console::say(&format!("add entropy: {error}"));
    }
}

fn volume_failed(guest: &Guest, mount: &Mount, error: &volume::VolumeError) -> StartError {
    let serial = mount.serial.clone();
    guest.events.tell(Event::VolumeError {
        serial: serial.clone(),
        message: console::chain(error),
    });
    StartError::Volume { serial }
}

async fn prepare_volumes(guest: &Guest, mounts: &[Mount]) -> Result<Vec<Volume>, StartError> {
    let mut volumes = Vec::new();
    for mount in mounts {
        match volume::prepare(&guest.reaper, mount).await {
            Ok((volume, formatted)) => {
                if formatted {
                    guest.events.tell(Event::Formatted {
                        serial: mount.serial.clone(),
                        fstype: mount.fstype,
                    });
                }
                volumes.push(volume);
            }
            Err(error) => return Err(volume_failed(guest, mount, &error)),
        }
    }
    // A mount point inside another volume comes after it.
    volumes.sort_by_key(|volume| Path::new(&volume.mount.path).components().count());
    Ok(volumes)
}

fn mount_volumes(guest: &Guest, volumes: &[Volume], owner: &Identity) -> Result<(), StartError> {
    for volume in volumes {
        match volume.mount(owner) {
            Ok(fs_bytes) => {
                guest.volumes.borrow_mut().push(volume.clone());
                guest.events.tell(Event::Mounted {
                    serial: volume.mount.serial.clone(),
                    fs_bytes,
                });
            }
            Err(error) => return Err(volume_failed(guest, &volume.mount, &error)),
        }
    }
    Ok(())
}

/// Programs rely on these, and minimal images lack them.
fn make_usual_directories() -> io::Result<()> {
    for (dir, mode) in [
        ("/tmp", 0o1777),
        ("/run", 0o755),
        ("/etc", 0o755),
        ("/var/tmp", 0o1777),
    ] {
        if !Path::new(dir).is_dir() {
            fs::create_dir_all(dir)?;
            fs::set_permissions(dir, fs::Permissions::from_mode(mode))?;
        }
    }
    Ok(())
}

fn identity(config: &GuestConfig) -> Result<Identity, UserError> {
    let spec = config.user.as_deref().unwrap_or("");
    user::resolve(spec, &exec::read("/etc/passwd"), &exec::read("/etc/group"))
}

fn environment(config: &GuestConfig, identity: &Identity) -> BTreeMap<String, String> {
    let mut env = config.env.clone();
    env.entry("PATH".to_owned())
        .or_insert_with(|| DEFAULT_PATH.to_owned());
    env.entry("HOME".to_owned())
        .or_insert_with(|| identity.home.clone());
    if config.tty {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm".to_owned());
    }
    env
}

fn start_workload(
    guest: &Rc<Guest>,
    config: &GuestConfig,
    identity: &Identity,
) -> Result<Started, StartError> {
    let cwd = PathBuf::from(config.cwd.as_deref().filter(|cwd| !cwd.is_empty()).unwrap_or("/"));
    if !cwd.is_dir() {
        fs::create_dir_all(&cwd).map_err(doing("make the working directory"))?;
    }
    let env = environment(config, identity);
    let group = Group::create(cgroup::WORKLOAD).map_err(doing("make the workload's cgroup"))?;
    group.limit_memory();
    let program = Program {
        argv: &config.argv,
        env: &env,
        cwd: &cwd,
        identity,
        group: Some(&group),
    };
    let (descriptors, outputs) = descriptors(config.tty).map_err(doing("open the workload's streams"))?;
    let pid = program.start(descriptors)?;
    let ended = guest.reaper.expect(pid);
    for (stream, source) in outputs {
        let guest = Rc::clone(guest);
        spawn_local(async move { guest.logs.carry(stream, source).await });
    }
    *guest.workload.borrow_mut() = Some(Workload {
        pid,
        env,
        user: config.user.clone(),
        cwd,
    });
    Ok(Started { pid, ended, group })
}

fn descriptors(tty: bool) -> io::Result<(Descriptors, Vec<(StreamId, Stream)>)> {
    if tty {
        let (ours, theirs) = stream::terminal(TERMINAL)?;
        let stdin = Stdio::from(theirs.try_clone()?);
        let stdout = Stdio::from(theirs.try_clone()?);
        let outputs = vec![(StreamId::LOG_STDOUT, Stream::new(ours)?)];
        return Ok((
            Descriptors {
                stdin,
                stdout,
                stderr: theirs.into(),
                tty: true,
            },
            outputs,
        ));
    }
    let (out, their_out) = program::pipe()?;
    let (err, their_err) = program::pipe()?;
    let outputs = vec![
        (StreamId::LOG_STDOUT, Stream::new(out)?),
        (StreamId::LOG_STDERR, Stream::new(err)?),
    ];
    Ok((
        Descriptors {
            stdin: Stdio::null(),
            stdout: their_out.into(),
            stderr: their_err.into(),
            tty: false,
        },
        outputs,
    ))
}
