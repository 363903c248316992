//! PURE. Numbers that the kernel knows files by.

use std::collections::HashMap;

use crate::{
    db::files::FileKind,
    name::{DatabaseName, MountName},
};

/// The directory.
pub(super) const ROOT: u64 = 1;
/// `.lag`.
pub(super) const LAG: u64 = 2;
/// `.primary`.
pub(super) const PRIMARY: u64 = 3;
const FIRST: u64 = 16;

/// The numbers in use. A file that is made anew under a name gets another: who has the old one open keeps it.
#[derive(Debug)]
pub(super) struct Inodes {
    next: u64,
    numbers: HashMap<String, u64>,
    entries: HashMap<u64, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    name: String,
    target: MountName,
    /// How often the kernel was told of it and has not forgotten.
    lookups: u64,
    /// Its name is gone, or another file's.
    unlinked: bool,
}

impl Default for Inodes {
    fn default() -> Self {
        Self {
            next: FIRST,
            numbers: HashMap::new(),
            entries: HashMap::new(),
        }
    }
}

impl Inodes {
    /// Returns the number of a file that exists, because the kernel asked for its name.
    pub(super) fn looked_up(&mut self, name: &str, target: &MountName) -> u64 {
        match target {
            MountName::Lag => return LAG,
            MountName::Primary => return PRIMARY,
            MountName::Database(_)
            | MountName::SideFile(..)
            | MountName::Pos(_)
            | MountName::Lock(_)
            | MountName::SuperJournal(_) => {}
        }
        let number = *self.numbers.entry(name.to_owned()).or_insert_with(|| {
            let number = self.next;
            self.next += 1;
            number
        });
        let entry = self.entries.entry(number).or_insert_with(|| Entry {
            name: name.to_owned(),
            target: target.clone(),
            lookups: 0,
            unlinked: false,
        });
        entry.lookups += 1;
        number
    }

    /// Returns what a number stands for, and whether its name is gone.
    pub(super) fn target(&self, number: u64) -> Option<(MountName, bool)> {
        match number {
            LAG => Some((MountName::Lag, false)),
            PRIMARY => Some((MountName::Primary, false)),
            number => {
                let entry = self.entries.get(&number)?;
                Some((entry.target.clone(), entry.unlinked))
            }
        }
    }

    /// Returns the number of a file of a database, if the kernel knows it.
    pub(super) fn of(&self, database: &DatabaseName, file: FileKind) -> Option<u64> {
        self.numbers.get(&name_of(database, file)).copied()
    }

    /// A name is gone. Its number stays with those who have the file open.
    pub(super) fn unlinked(&mut self, name: &str) {
        if let Some(number) = self.numbers.remove(name)
            && let Some(entry) = self.entries.get_mut(&number)
        {
            entry.unlinked = true;
        }
    }

    /// The kernel has forgotten a number so many times.
    pub(super) fn forget(&mut self, number: u64, lookups: u64) {
        let Some(entry) = self.entries.get_mut(&number) else {
            return;
        };
        entry.lookups = entry.lookups.saturating_sub(lookups);
        if entry.lookups == 0 {
            if self.numbers.get(&entry.name) == Some(&number) {
                self.numbers.remove(&entry.name);
            }
            self.entries.remove(&number);
        }
    }
}

/// What a database's file is called in the mount.
pub(super) fn name_of(database: &DatabaseName, file: FileKind) -> String {
    let suffix = match file {
        FileKind::Database => "",
        FileKind::RollbackJournal => "-journal",
        FileKind::Wal => "-wal",
        FileKind::Shm => "-shm",
    };
    format!("{database}{suffix}")
}

#[cfg(test)]
mod tests;
