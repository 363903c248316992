//! The names of a file system: what is seen, what is durable, and the changes between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use rand::Rng;

use super::content::Luck;

/// A file or directory, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Inode(u64);

impl Inode {
    /// The directory that every path begins at.
    pub(crate) const ROOT: Self = Self(0);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A name in a directory.
pub(crate) type Place = (Inode, OsString);
/// What each name stands for.
pub(crate) type Names = BTreeMap<Place, Inode>;

/// A change of names. `from` alone removes, `to` alone creates, both rename.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) inode: Inode,
    pub(crate) is_dir: bool,
    pub(crate) from: Option<Place>,
    pub(crate) to: Option<Place>,
}

impl Change {
    fn places(&self) -> impl Iterator<Item = &Place> {
        self.from.iter().chain(&self.to)
    }

    /// Tells whether no disk would keep this change without `earlier`: both are about one name or one file, or a directory
    /// is removed that `earlier` emptied. Moves of directories keep their order among themselves, or a directory could end
    /// up below itself.
    fn needs(&self, earlier: &Self) -> bool {
        self.inode == earlier.inode
            || (self.is_dir && earlier.is_dir)
            || (self.is_dir && self.to.is_none() && earlier.touches(self.inode))
            || self
                .places()
                .any(|place| earlier.places().any(|other| other == place))
    }

    fn touches(&self, directory: Inode) -> bool {
        self.places().any(|(parent, _)| *parent == directory)
    }

    fn apply(&self, names: &mut Names) {
        if let Some(from) = &self.from {
            let gone = names.remove(from);
            assert_eq!(gone, Some(self.inode), "the name {from:?} stood for another file");
        }
        if let Some(to) = &self.to {
            names.insert(to.clone(), self.inode);
        }
    }
}

/// The names as programs see them, and their unsynced past.
#[derive(Debug, Clone, Default)]
pub(crate) struct Namespace {
    seen: Names,
    durable: Names,
    /// In the order in which they were made; those that are durable are gone from here.
    pending: Vec<Change>,
}

impl Namespace {
    /// Names all of which are durable.
    pub(crate) fn durable(names: Names) -> Self {
        Self {
            seen: names.clone(),
            durable: names,
            pending: Vec::new(),
        }
    }

    pub(crate) fn seen(&self) -> &Names {
        &self.seen
    }

    pub(crate) fn lookup(&self, directory: Inode, name: &OsStr) -> Option<Inode> {
        self.seen.get(&(directory, name.to_owned())).copied()
    }

    pub(crate) fn list(&self, directory: Inode) -> impl Iterator<Item = (&OsStr, Inode)> {
        self.seen
            .range((directory, OsString::new())..(directory.next(), OsString::new()))
            .map(|((_, name), inode)| (name.as_os_str(), *inode))
    }

    pub(crate) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// Makes the changes of one directory durable, and those that they need.
    pub(crate) fn sync(&mut self, directory: Inode) {
        let mut kept = vec![false; self.pending.len()];
        for index in (0..self.pending.len()).rev() {
            let needed =
                || (index + 1..kept.len()).any(|l| kept[l] && self.pending[l].needs(&self.pending[index]));
            kept[index] = self.pending[index].touches(directory) || needed();
        }
        for (change, kept) in self.pending.iter().zip(&kept) {
            if *kept {
                change.apply(&mut self.durable);
            }
        }
        let mut kept = kept.into_iter();
        self.pending.retain(|_| !kept.next().unwrap_or_default());
    }

    /// One of the states that a power cut may leave: durable names, and any set of changes that lacks no change that one
    /// of its own needs.
    pub(crate) fn crash<R: Rng + ?Sized>(&self, luck: &Luck, rng: &mut R) -> Names {
        let mut lost: Vec<&Change> = Vec::new();
        let mut names = self.durable.clone();
        for change in &self.pending {
            if luck.survives(rng) && !lost.iter().any(|earlier| change.needs(earlier)) {
                change.apply(&mut names);
            } else {
                lost.push(change);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests;
