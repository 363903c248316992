//! Names of files, as SQLite makes them of a database's.

use litefs_rs::db::files::FileKind;

/// What a name stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Name {
    File { database: String, file: FileKind },
    SuperJournal(String),
}

impl Name {
    pub(crate) fn parse(name: &str) -> Self {
        if name.contains("-mj") {
            return Self::SuperJournal(name.to_owned());
        }
        let suffixes = [
            ("-journal", FileKind::RollbackJournal),
            ("-wal", FileKind::Wal),
            ("-shm", FileKind::Shm),
        ];
        let found = suffixes
            .iter()
            .find_map(|(suffix, file)| Some((name.strip_suffix(suffix)?, *file)));
        let (database, file) = found.unwrap_or((name, FileKind::Database));
        Self::File {
            database: database.to_owned(),
            file,
        }
    }
}
