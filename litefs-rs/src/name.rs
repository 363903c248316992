//! PURE. Names in the mount, and what they stand for.

use std::{fmt, str::FromStr};

use crate::db::files::FileKind;

/// A database's name may not be longer, in bytes: its longest side file would have no room.
pub const NAME_BYTES_MAX: usize = 255 - "-journal".len();

const LAG: &str = ".lag";
const PRIMARY: &str = ".primary";
const POS: &str = "-pos";
const LOCK: &str = "-lock";
const SIDE_FILES: [(&str, FileKind); 3] = [
    ("-journal", FileKind::RollbackJournal),
    ("-wal", FileKind::Wal),
    ("-shm", FileKind::Shm),
];
/// What SQLite puts between a database's name and 9 hexadecimal digits for a super-journal.
const SUPER_JOURNAL: &str = "-mj";

/// The name of a database: one part of a path that means nothing else in the mount.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DatabaseName(String);

impl DatabaseName {
    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DatabaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DatabaseName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match MountName::from_str(name)? {
            MountName::Database(name) => Ok(name),
            MountName::Lag
            | MountName::Primary
            | MountName::Pos(_)
            | MountName::Lock(_)
            | MountName::SideFile(..)
            | MountName::SuperJournal(_) => Err(NameError::Reserved(name.to_owned())),
        }
    }
}

/// What a name in the mount stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountName {
    /// How far behind the primary this node is.
    Lag,
    /// Who the primary is.
    Primary,
    /// A database.
    Database(DatabaseName),
    /// Its journal, log or index.
    SideFile(DatabaseName, FileKind),
    /// Where it stands.
    Pos(DatabaseName),
    /// What is locked to write to it from a replica.
    Lock(DatabaseName),
    /// The journal of a transaction over several databases; the name is that of the whole file.
    SuperJournal(String),
}

impl FromStr for MountName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        match name {
            LAG => return Ok(Self::Lag),
            PRIMARY => return Ok(Self::Primary),
            _ => {}
        }
        if is_super_journal(name) {
            return Ok(Self::SuperJournal(name.to_owned()));
        }
        for (suffix, file) in SIDE_FILES {
            if let Some(database) = name.strip_suffix(suffix) {
                return Ok(Self::SideFile(plain(database)?, file));
            }
        }
        if let Some(database) = name.strip_suffix(POS) {
            return Ok(Self::Pos(plain(database)?));
        }
        if let Some(database) = name.strip_suffix(LOCK) {
            return Ok(Self::Lock(plain(database)?));
        }
        plain(name).map(Self::Database)
    }
}

/// Takes what is left of a name for a database's, whatever it ends with: `a-wal-pos` is nobody's.
fn plain(name: &str) -> Result<DatabaseName, NameError> {
    let reserved = |suffix: &str| name.ends_with(suffix);
    if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
        return Err(NameError::NoFileName(name.to_owned()));
    }
    if name.len() > NAME_BYTES_MAX {
        return Err(NameError::Long { bytes: name.len() });
    }
    let side_file = SIDE_FILES.iter().any(|(suffix, _)| reserved(suffix));
    if side_file
        || reserved(POS)
        || reserved(LOCK)
        || name == LAG
        || name == PRIMARY
        || is_super_journal(name)
    {
        return Err(NameError::Reserved(name.to_owned()));
    }
    Ok(DatabaseName(name.to_owned()))
}

/// SQLite calls a super-journal `<database>-mj` and 9 hexadecimal digits in upper case.
fn is_super_journal(name: &str) -> bool {
    let digits = name
        .rsplit_once(SUPER_JOURNAL)
        .map(|(database, digits)| (!database.is_empty(), digits));
    let hexadecimal = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'F');
    digits.is_some_and(|(named, digits)| named && digits.len() == 9 && digits.bytes().all(hexadecimal))
}

/// Why a name cannot be a database's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is none that a file could have.
    #[error("{0:?} is no file name")]
    NoFileName(String),
    /// Side files would have no room for theirs.
    #[error("a database's name of {bytes} bytes, {NAME_BYTES_MAX} at most")]
    Long {
        /// How long it is.
        bytes: usize,
    },
    /// It means something else in the mount.
    #[error("{0:?} is no database's name")]
    Reserved(String),
}

#[cfg(test)]
mod tests;
