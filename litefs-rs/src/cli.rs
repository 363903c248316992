//! PURE. The command line, as LiteFS has it: flags with one dash or two, `-name value` or `-name=value`.

use std::path::PathBuf;

/// Where a node's API is when nothing is said.
pub const DEFAULT_URL: &str = "http://localhost:20202";

/// What is said to whoever asks for help.
pub const USAGE: &str = "\
litefs is a file system that replicates the SQLite databases on it.

Usage:

	litefs <command> [arguments]

The commands are:

	export       copies a database from a node to a file
	import       copies a SQLite database into a node
	mount        serves the databases and runs commands beside them
	promote      makes a node primary
	run          runs a command on a node
	status       says what a node is and has
	verify       says whether every database is as it should be
	version      prints the version
";

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Serve.
    Mount(MountArgs),
    /// Run a command.
    Run(RunArgs),
    /// Bring a database in.
    Import(TransferArgs),
    /// Take a database out.
    Export(TransferArgs),
    /// Make a node primary.
    Promote(NodeArgs),
    /// Say what a node is and has.
    Status(NodeArgs),
    /// Say whether everything is as it should be.
    Verify(VerifyArgs),
    /// Say which program this is.
    Version,
    /// Say how to use it.
    Help,
}

/// How to serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountArgs {
    /// The configuration file; nothing: the first of the usual places.
    pub config: Option<PathBuf>,
    /// Leave variables in the file as they are.
    pub no_expand_env: bool,
    /// Leave what is mounted there.
    pub skip_unmount: bool,
    /// The log tells requests.
    pub debug: bool,
    /// What to run instead of what the file says.
    pub command: Vec<String>,
}

/// What to run, and when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunArgs {
    /// Where the node's API is.
    pub url: String,
    /// Only if the node may become primary.
    pub if_candidate: bool,
    /// On the primary: the node becomes that first.
    pub promote: bool,
    /// With the primary's write lock of this database, by its path in the mount.
    pub halt: Option<PathBuf>,
    /// What to run.
    pub command: Vec<String>,
}

/// Which node is meant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeArgs {
    /// Where its API is.
    pub url: String,
}

/// What is looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VerifyArgs {
    /// Where the API of the node is that runs.
    pub url: String,
    /// The data directory of one that does not.
    pub data: Option<PathBuf>,
}

/// Which database goes where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransferArgs {
    /// Where the node's API is.
    pub url: String,
    /// What the node calls the database.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Why a command line is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// There is no such command.
    #[error("litefs {0}: unknown command")]
    UnknownCommand(String),
    /// The command has no such flag.
    #[error("flag provided but not defined: -{0}")]
    UnknownFlag(String),
    /// A flag lacks its value.
    #[error("flag needs an argument: -{0}")]
    NoValue(String),
    /// A value is none that the flag takes.
    #[error("invalid boolean value \"{value}\" for -{flag}")]
    NotBoolean {
        /// The flag.
        flag: String,
        /// What was given.
        value: String,
    },
    /// Something is left over.
    #[error("too many arguments: {0}")]
    TooMany(String),
    /// A primary has its own write lock.
    #[error("cannot specify both -promote and -with-halt-lock-on")]
    PromoteWithHalt,
    /// Something is missing.
    #[error("{0} required")]
    Missing(&'static str),
}

/// Reads a command line.
///
/// * `args`: without the program's own name.
///
/// # Errors
/// It is none.
pub fn parse(args: impl IntoIterator<Item = String>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let Some(command) = args.next() else {
        return Ok(Command::Help);
    };
    let rest: Vec<String> = args.collect();
    match command.as_str() {
        "mount" => mount(rest).map(Command::Mount),
        "run" => run(rest).map(Command::Run),
        "import" => transfer(rest).map(Command::Import),
        "export" => transfer(rest).map(Command::Export),
        "promote" => node(rest).map(Command::Promote),
        "status" => node(rest).map(Command::Status),
        "verify" => verify(rest).map(Command::Verify),
        "version" => Ok(Command::Version),
        "help" | "-h" | "-help" | "--help" => Ok(Command::Help),
        other => Err(UsageError::UnknownCommand(other.to_owned())),
    }
}

fn mount(args: Vec<String>) -> Result<MountArgs, UsageError> {
    let mut parsed = MountArgs::default();
    let mut flags = Flags::new(args);
    while let Some((flag, value)) = flags.next_flag()? {
        match flag.as_str() {
            "config" => parsed.config = Some(flags.value(flag, value)?.into()),
            "no-expand-env" => parsed.no_expand_env = boolean(flag, value)?,
            "skip-unmount" => parsed.skip_unmount = boolean(flag, value)?,
            "debug" | "fuse.debug" | "tracing" => parsed.debug |= boolean(flag, value)?,
            _ => return Err(UsageError::UnknownFlag(flag)),
        }
    }
    parsed.command = flags.after_dashes()?;
    Ok(parsed)
}

fn run(args: Vec<String>) -> Result<RunArgs, UsageError> {
    let mut parsed = RunArgs {
        url: DEFAULT_URL.to_owned(),
        ..RunArgs::default()
    };
    let mut flags = Flags::new(args);
    while let Some((flag, value)) = flags.next_flag()? {
        match flag.as_str() {
            "url" => parsed.url = flags.value(flag, value)?,
            "if-candidate" => parsed.if_candidate = boolean(flag, value)?,
            "promote" => parsed.promote = boolean(flag, value)?,
            "with-halt-lock-on" => parsed.halt = Some(flags.value(flag, value)?.into()),
            _ => return Err(UsageError::UnknownFlag(flag)),
        }
    }
    parsed.command = flags.after_dashes()?;
    if parsed.command.is_empty() {
        return Err(UsageError::Missing("command after --"));
    }
    if parsed.promote && parsed.halt.is_some() {
        return Err(UsageError::PromoteWithHalt);
    }
    Ok(parsed)
}

fn node(args: Vec<String>) -> Result<NodeArgs, UsageError> {
    let mut url = DEFAULT_URL.to_owned();
    let mut flags = Flags::new(args);
    while let Some((flag, value)) = flags.next_flag()? {
        match flag.as_str() {
            "url" => url = flags.value(flag, value)?,
            _ => return Err(UsageError::UnknownFlag(flag)),
        }
    }
    match flags.rest().into_iter().next() {
        Some(more) => Err(UsageError::TooMany(more)),
        None => Ok(NodeArgs { url }),
    }
}

fn verify(args: Vec<String>) -> Result<VerifyArgs, UsageError> {
    let mut parsed = VerifyArgs {
        url: DEFAULT_URL.to_owned(),
        data: None,
    };
    let mut flags = Flags::new(args);
    while let Some((flag, value)) = flags.next_flag()? {
        match flag.as_str() {
            "url" => parsed.url = flags.value(flag, value)?,
            "data" => parsed.data = Some(flags.value(flag, value)?.into()),
            _ => return Err(UsageError::UnknownFlag(flag)),
        }
    }
    match flags.rest().into_iter().next() {
        Some(more) => Err(UsageError::TooMany(more)),
        None => Ok(parsed),
    }
}

fn transfer(args: Vec<String>) -> Result<TransferArgs, UsageError> {
    let mut parsed = TransferArgs {
        url: DEFAULT_URL.to_owned(),
        ..TransferArgs::default()
    };
    let mut flags = Flags::new(args);
    while let Some((flag, value)) = flags.next_flag()? {
        match flag.as_str() {
            "url" => parsed.url = flags.value(flag, value)?,
            "name" => parsed.name = flags.value(flag, value)?,
            _ => return Err(UsageError::UnknownFlag(flag)),
        }
    }
    let mut rest = flags.rest().into_iter();
    parsed.path = rest.next().ok_or(UsageError::Missing("path of a file"))?.into();
    if let Some(more) = rest.next() {
        return Err(UsageError::TooMany(more));
    }
    if parsed.name.is_empty() {
        return Err(UsageError::Missing("database name"));
    }
    Ok(parsed)
}

struct Flags {
    args: std::iter::Peekable<std::vec::IntoIter<String>>,
    ended: bool,
}

impl Flags {
    fn new(args: Vec<String>) -> Self {
        Self {
            args: args.into_iter().peekable(),
            ended: false,
        }
    }

    /// Returns the next flag, with its value if that is joined to it; nothing before the first argument that is none.
    fn next_flag(&mut self) -> Result<Option<(String, Option<String>)>, UsageError> {
        let is_flag = |arg: &String| arg.len() > 1 && arg.starts_with('-');
        let Some(arg) = self.args.next_if(is_flag) else {
            return Ok(None);
        };
        if arg == "--" {
            self.ended = true;
            return Ok(None);
        }
        let name = arg.trim_start_matches('-');
        Ok(Some(match name.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None => (name.to_owned(), None),
        }))
    }

    fn value(&mut self, flag: String, joined: Option<String>) -> Result<String, UsageError> {
        joined
            .or_else(|| self.args.next())
            .ok_or(UsageError::NoValue(flag))
    }

    fn rest(self) -> Vec<String> {
        self.args.collect()
    }

    fn after_dashes(mut self) -> Result<Vec<String>, UsageError> {
        if !self.ended
            && let Some(arg) = self.args.next()
        {
            return Err(UsageError::TooMany(format!("{arg}; put a command behind --")));
        }
        Ok(self.rest())
    }
}

fn boolean(flag: String, value: Option<String>) -> Result<bool, UsageError> {
    match value.as_deref() {
        None | Some("true" | "t" | "1" | "T" | "TRUE" | "True") => Ok(true),
        Some("false" | "f" | "0" | "F" | "FALSE" | "False") => Ok(false),
        Some(value) => Err(UsageError::NotBoolean {
            flag,
            value: value.to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests;
