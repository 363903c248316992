//! Names that SQLite gives files, as far as the tests' file system has them.

use litefs_rs::{db::files::FileKind, name::MountName};

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    File { database: String, file: FileKind },
    SuperJournal(String),
}

impl Name {
    pub(crate) fn parse(name: &str) -> Self {
        let (database, file) = match name.parse().unwrap() {
            MountName::SuperJournal(name) => return Self::SuperJournal(name),
            MountName::Database(database) => (database, FileKind::Database),
            MountName::SideFile(database, file) => (database, file),
            other @ (MountName::Lag | MountName::Primary | MountName::Pos(_) | MountName::Lock(_)) => {
                panic!("SQLite opens no {other:?}")
            }
        };
        Self::File {
            database: database.to_string(),
            file,
        }
    }
}
