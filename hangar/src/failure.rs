//! Why a command did not do what it was asked, and the exit code that says so.

use std::path::PathBuf;
use std::time::Duration;

/// The command did what it was asked.
pub const DONE: u8 = 0;
/// The answer is no.
pub const NO: u8 = 1;
/// The command was given wrongly.
pub const MISUSE: u8 = 2;
/// It may work later.
pub const TRY_AGAIN: u8 = 3;

/// Why a command ended without success.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The node refused.
    #[error("{doing}: {error}{}", request_id.as_ref().map(|id| format!(" (Request ID: {id})")).unwrap_or_default())]
    Refused {
        /// What was being done.
        doing: &'static str,
        /// HTTP status.
        status: u16,
        /// The node's sentence.
        error: String,
        /// The node's id of the request.
        request_id: Option<String>,
    },
    /// The node did not answer.
    #[error("{doing}: no answer from {endpoint}; is the node running? (`hangar up` starts one)")]
    Unreachable {
        /// What was being done.
        doing: &'static str,
        /// The address asked.
        endpoint: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The node answered something that is not its API.
    #[error("{doing}: {endpoint} answered something that is not the Machines API")]
    NotTheApi {
        /// What was being done.
        doing: &'static str,
        /// The address asked.
        endpoint: String,
    },
    /// A daemon of this host did not answer on its own socket.
    #[error("{doing}: {}: {source}; is the node running, and are you its user?", socket.display())]
    Daemon {
        /// What was being done.
        doing: &'static str,
        /// The socket asked.
        socket: PathBuf,
        /// Why.
        source: daemon::unix_http::CallError,
    },
    /// No node was found.
    #[error("no node below {}; start one with `hangar up`, or set HANGAR_ENDPOINT and FLY_API_TOKEN", data.display())]
    NoNode {
        /// The data directory looked at.
        data: PathBuf,
    },
    /// The node's token could not be read.
    #[error("token file {}: {source}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The node does not know the token.
    #[error(
        "{doing}: {endpoint} does not know this token; use the one in the node's flaps/token file, by -t, FLY_API_TOKEN or not at all on the node's own host"
    )]
    BadToken {
        /// What was being done.
        doing: &'static str,
        /// The address asked.
        endpoint: String,
    },
    /// No app was named.
    #[error("the app's name is missing; use -a/--app, FLY_APP or HANGAR_APP")]
    MissingApp,
    /// A question could not be asked.
    #[error("yes flag must be specified when not running interactively; {what}")]
    MissingYes {
        /// What would have been asked.
        what: String,
    },
    /// The answer to a question was no.
    #[error("nothing was done")]
    Declined,
    /// A value on the command line makes no sense.
    #[error("invalid {what} {given:?}: {expected}")]
    BadValue {
        /// What it stands for.
        what: &'static str,
        /// As given.
        given: String,
        /// What it should be.
        expected: &'static str,
    },
    /// An option that this command cannot do without is missing.
    #[error("{what}")]
    MissingOption {
        /// A sentence.
        what: &'static str,
    },
    /// No volume of that name is free.
    #[error("not enough unattached volumes for '{name}'; create one with `hangar volumes create {name}`")]
    NoFreeVolume {
        /// As given.
        name: String,
    },
    /// A machine is not in the right state.
    #[error("machine {id} currently {state}, either stop first or use --force flag")]
    MachineBusy {
        /// The machine.
        id: String,
        /// Its state.
        state: String,
    },
    /// Waiting took too long.
    #[error("{what} did not reach state {state:?} within {} s; it is {last:?} now", within.as_secs())]
    WaitedTooLong {
        /// What was waited for.
        what: String,
        /// Which state.
        state: String,
        /// What it is.
        last: String,
        /// How long.
        within: Duration,
    },
    /// A machine ended up somewhere else.
    #[error("{}", not_started(id, state, reason.as_deref()))]
    NotStarted {
        /// The machine.
        id: String,
        /// Its state.
        state: String,
        /// What its newest exit says.
        reason: Option<String>,
    },
    /// A command in a guest failed.
    #[error("Exit code: {code}")]
    GuestCommand {
        /// Its exit code.
        code: i64,
    },
    /// A snapshot cannot be trusted.
    #[error("snapshot {id} is damaged in {count} places; restore another one")]
    Damaged {
        /// The snapshot.
        id: String,
        /// How many errors.
        count: usize,
    },
    /// A thing is not of the app that was named.
    #[error("{what} is of app '{app}'")]
    OtherApp {
        /// What.
        what: String,
        /// The app that it is of.
        app: String,
    },
    /// Something essential is missing on this host.
    #[error("this host cannot run a node yet; see above")]
    HostNotReady,
    /// A local file could not be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// An import ended without an image.
    #[error("import of {source_name}: {error}")]
    Import {
        /// Path or reference.
        source_name: String,
        /// The node's sentence.
        error: String,
    },
    /// Our own output could not be written.
    #[error("write output: {0}")]
    Output(#[from] std::io::Error),
}

fn not_started(id: &str, state: &str, reason: Option<&str>) -> String {
    match (reason, state) {
        (None, _) => {
            format!("machine {id} is {state} instead of started; `hangar machine logs {id}` may say why")
        }
        (Some(reason), "restarting") => format!(
            "machine {id} did not start: {reason}; it is tried again for a while, `hangar machine stop {id}` ends that"
        ),
        (Some(reason), _) => format!("machine {id} did not start: {reason}"),
    }
}

impl Failure {
    /// The exit code: 1 no, 2 misuse, 3 try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused { status, .. } => match status {
                408 | 409 | 429 | 502..=504 => TRY_AGAIN,
                _ => NO,
            },
            Self::Unreachable { .. } | Self::Daemon { .. } | Self::WaitedTooLong { .. } => TRY_AGAIN,
            Self::MissingApp
            | Self::MissingYes { .. }
            | Self::BadValue { .. }
            | Self::MissingOption { .. } => MISUSE,
            Self::NotTheApi { .. }
            | Self::NoNode { .. }
            | Self::Token { .. }
            | Self::BadToken { .. }
            | Self::Declined
            | Self::NoFreeVolume { .. }
            | Self::MachineBusy { .. }
            | Self::NotStarted { .. }
            | Self::GuestCommand { .. }
            | Self::Damaged { .. }
            | Self::OtherApp { .. }
            | Self::HostNotReady
            | Self::File { .. }
            | Self::Import { .. } => NO,
            // The reader of our output has gone (`| head`): not our failure.
            Self::Output(error) if error.kind() == std::io::ErrorKind::BrokenPipe => DONE,
            Self::Output(_) => NO,
        }
    }

    /// Tells whether the node said 404.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

#[cfg(test)]
mod tests;
