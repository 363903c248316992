//! What a file system remembers when the power goes. Pure: no file, no clock; randomness is handed in.
//!
//! The rules, shared by the [`Recorder`](crate::Recorder) and the simulated disk:
//! * Bytes: [`Model::sync_file`] makes a file's bytes and length durable, never its name. Until then each 4 KiB page that
//!   was changed may be on the disk in its old version, its newest, or one between, independent of the others, and may be
//!   torn into sectors of 512 bytes; the length may be any that it was since the last sync.
//! * Names: [`Model::sync_dir`] makes the creations, removals and renames in one directory durable, not the directory's own
//!   name in its parent. Until then each may survive or not, in any combination, except that changes about one name or
//!   one file keep their order, and that a rename happens as a whole.
//! * A reflink has the bytes that its source showed at that instant; neither its bytes nor its name are durable.
//!
//! This is weaker than what ext4 or XFS do by default, and on purpose: code that is safe here needs no mount option.

mod content;
mod names;
mod page_ranges;
mod tree;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rand::Rng;

pub use content::{Content, PAGE_BYTES};
pub use names::Inode;
pub use tree::{Node, Tree};

use crate::{Entry, OpenOptions, Stat};
use content::{CachedFile, Luck};
use names::{Change, Names, Namespace};

#[derive(Debug, Clone)]
enum Held {
    Dir,
    File { mode: u32, file: Arc<CachedFile> },
}

/// A file system in memory that knows what a power cut would leave of it. Cloning shares the bytes.
///
/// Paths may be absolute or relative; either way they begin at the model's root. `..` is refused.
#[derive(Debug, Clone)]
pub struct Model {
    inodes: BTreeMap<Inode, Held>,
    names: Namespace,
    next: Inode,
}

impl Default for Model {
    fn default() -> Self {
        Self::new(&Tree::default())
    }
}

impl Model {
    /// Creates a model in which `tree` is all there is, and durable.
    pub fn new(tree: &Tree) -> Self {
        let mut inodes = BTreeMap::from([(Inode::ROOT, Held::Dir)]);
        let mut by_path = BTreeMap::from([(Path::new(""), Inode::ROOT)]);
        let mut names = Names::new();
        let mut next = Inode::ROOT.next();
        for (path, node) in tree.nodes() {
            let held = match node {
                Node::Dir => Held::Dir,
                Node::File { mode, content } => Held::File {
                    mode: *mode,
                    file: Arc::new(CachedFile::durable(content.clone())),
                },
            };
            let parent = by_path[path.parent().unwrap_or(Path::new(""))];
            let name = path.file_name().expect("a tree's path has a name");
            names.insert((parent, name.to_owned()), next);
            inodes.insert(next, held);
            by_path.insert(path, next);
            next = next.next();
        }
        Self {
            inodes,
            names: Namespace::durable(names),
            next,
        }
    }

    /// Returns one of the states that a power cut now may leave.
    pub fn crash<R: Rng + ?Sized>(&self, rng: &mut R) -> Tree {
        let luck = Luck::draw(rng);
        let names = self.names.crash(&luck, rng);
        self.tree(&names, |file| file.crash(&luck, rng))
    }

    /// Returns what every program sees now, and what is left when only processes die.
    pub fn seen(&self) -> Tree {
        self.tree(self.names.seen(), CachedFile::seen)
    }

    /// What can be reached by `names`, each file by `content`.
    fn tree(&self, names: &Names, mut content: impl FnMut(&CachedFile) -> Content) -> Tree {
        let mut tree = Tree::default();
        let mut open = vec![(Inode::ROOT, PathBuf::new())];
        while let Some((directory, path)) = open.pop() {
            let end = (directory.next(), Default::default());
            for ((_, name), inode) in names.range((directory, Default::default())..end) {
                let path = path.join(name);
                match &self.inodes[inode] {
                    Held::Dir => {
                        tree.insert(path.clone(), Node::Dir);
                        open.push((*inode, path));
                    }
                    Held::File { mode, file } => {
                        tree.insert(
                            path,
                            Node::File {
                                mode: *mode,
                                content: content(file),
                            },
                        );
                    }
                }
            }
        }
        tree
    }

    /// Opens a file.
    ///
    /// # Errors
    /// As [`Disk::open`](crate::Disk::open).
    pub fn open(&mut self, path: &Path, options: OpenOptions) -> Result<Inode> {
        let (directory, name) = self.place(path)?;
        let inode = match self.names.lookup(directory, name) {
            Some(_) if options.create_new => return Err(fault(ErrorKind::AlreadyExists, path)),
            Some(inode) => inode,
            None if options.create || options.create_new => {
                let held = Held::File {
                    mode: options.mode,
                    file: Arc::default(),
                };
                self.create(directory, name, held)
            }
            None => return Err(fault(ErrorKind::NotFound, path)),
        };
        match &self.inodes[&inode] {
            Held::Dir => return Err(fault(ErrorKind::IsADirectory, path)),
            Held::File { .. } if options.truncate => self.file_mut(inode).set_len(0),
            Held::File { .. } => {}
        }
        Ok(inode)
    }

    /// Creates a directory and those above it that are missing.
    ///
    /// # Errors
    /// `NotADirectory` when one of the path's parts is a file.
    pub fn create_dir_all(&mut self, path: &Path) -> Result<()> {
        let mut directory = Inode::ROOT;
        for name in parts(path) {
            let name = name?;
            directory = match self.names.lookup(directory, name) {
                Some(inode) if matches!(self.inodes[&inode], Held::Dir) => inode,
                Some(_) => return Err(fault(ErrorKind::NotADirectory, path)),
                None => self.create(directory, name, Held::Dir),
            };
        }
        Ok(())
    }

    /// Removes a file's name; the bytes stay for whoever has it open.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`.
    pub fn remove_file(&mut self, path: &Path) -> Result<()> {
        let (directory, name) = self.place(path)?;
        let inode = self
            .names
            .lookup(directory, name)
            .ok_or_else(|| fault(ErrorKind::NotFound, path))?;
        if matches!(self.inodes[&inode], Held::Dir) {
            return Err(fault(ErrorKind::IsADirectory, path));
        }
        self.remove(directory, name, inode);
        Ok(())
    }

    /// Removes a directory and all below it.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn remove_dir_all(&mut self, path: &Path) -> Result<()> {
        let (parent, name) = self.place(path)?;
        let inode = self.directory(path)?;
        self.remove_below(inode);
        self.remove(parent, name, inode);
        Ok(())
    }

    fn remove_below(&mut self, directory: Inode) {
        let names: Vec<_> = self
            .names
            .list(directory)
            .map(|(name, inode)| (name.to_owned(), inode))
            .collect();
        for (name, inode) in names {
            if matches!(self.inodes[&inode], Held::Dir) {
                self.remove_below(inode);
            }
            self.remove(directory, &name, inode);
        }
    }

    /// Renames a file or directory, replacing a file.
    ///
    /// # Errors
    /// `NotFound`; `IsADirectory`, `NotADirectory` or `DirectoryNotEmpty` when something else stands at `to`;
    /// `InvalidInput` for a directory into itself.
    pub fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        let (from_directory, from_name) = self.place(from)?;
        let inode = self
            .names
            .lookup(from_directory, from_name)
            .ok_or_else(|| fault(ErrorKind::NotFound, from))?;
        let (to_directory, to_name) = self.place(to)?;
        let is_dir = matches!(self.inodes[&inode], Held::Dir);
        if is_dir && self.is_within(to_directory, inode) {
            return Err(fault(ErrorKind::InvalidInput, to));
        }
        match self.names.lookup(to_directory, to_name) {
            Some(there) if there == inode => return Ok(()),
            Some(there) => match (is_dir, &self.inodes[&there]) {
                (false, Held::File { .. }) => {}
                (false, Held::Dir) => return Err(fault(ErrorKind::IsADirectory, to)),
                (true, Held::File { .. }) => return Err(fault(ErrorKind::NotADirectory, to)),
                (true, Held::Dir) if self.names.list(there).next().is_some() => {
                    return Err(fault(ErrorKind::DirectoryNotEmpty, to));
                }
                (true, Held::Dir) => self.remove(to_directory, to_name, there),
            },
            None => {}
        }
        let from = Some((from_directory, from_name.to_owned()));
        let to = Some((to_directory, to_name.to_owned()));
        self.names.change(Change {
            inode,
            is_dir,
            from,
            to,
        });
        Ok(())
    }

    fn is_within(&self, directory: Inode, ancestor: Inode) -> bool {
        directory == ancestor
            || self.names.list(ancestor).any(|(_, inode)| {
                matches!(self.inodes[&inode], Held::Dir) && self.is_within(directory, inode)
            })
    }

    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn sync_dir(&mut self, path: &Path) -> Result<()> {
        let directory = self.directory(path)?;
        self.names.sync(directory);
        Ok(())
    }

    /// Creates `to` with the bytes that `from` shows.
    ///
    /// # Errors
    /// `NotFound`, `IsADirectory`, `AlreadyExists`.
    pub fn reflink(&mut self, from: &Path, to: &Path) -> Result<()> {
        let inode = self.open(from, OpenOptions::READ)?;
        let (directory, name) = self.place(to)?;
        if self.names.lookup(directory, name).is_some() {
            return Err(fault(ErrorKind::AlreadyExists, to));
        }
        let file = Arc::new(self.file(inode).reflinked());
        self.create(directory, name, Held::File { mode: 0o600, file });
        Ok(())
    }

    /// Lists a directory, sorted by name.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`.
    pub fn list(&self, path: &Path) -> Result<Vec<Entry>> {
        let directory = self.directory(path)?;
        let entry = |(name, inode): (&OsStr, Inode)| {
            let stat = self.stat_of(inode);
            Entry {
                name: name.to_string_lossy().into_owned(),
                is_dir: stat.is_dir,
                len: stat.len,
            }
        };
        Ok(self.names.list(directory).map(entry).collect())
    }

    /// Returns what is known of a path.
    ///
    /// # Errors
    /// `InvalidInput` for a path with `..`.
    pub fn stat(&self, path: &Path) -> Result<Option<Stat>> {
        match self.find(path) {
            Ok(inode) => Ok(Some(self.stat_of(inode))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn stat_of(&self, inode: Inode) -> Stat {
        match &self.inodes[&inode] {
            Held::Dir => Stat {
                is_dir: true,
                len: 0,
                allocated_bytes: 0,
            },
            Held::File { file, .. } => Stat {
                is_dir: false,
                len: file.len(),
                allocated_bytes: file.allocated_bytes(),
            },
        }
    }
}

/// Open files, by what [`Model::open`] gave.
///
/// # Panics
/// Each of these, when the inode is not one of this model's files.
impl Model {
    /// Reads; fewer bytes than asked for come back only at the file's end.
    pub fn read_at(&self, inode: Inode, bytes: &mut [u8], offset: u64) -> usize {
        self.file(inode).read_at(bytes, offset)
    }

    /// Writes all of `bytes`.
    pub fn write_at(&mut self, inode: Inode, bytes: &[u8], offset: u64) {
        self.file_mut(inode).write_at(bytes, offset);
    }

    /// Cuts or grows the file.
    pub fn set_len(&mut self, inode: Inode, len: u64) {
        self.file_mut(inode).set_len(len);
    }

    /// Reserves room.
    pub fn allocate(&mut self, inode: Inode, offset: u64, len: u64) {
        self.file_mut(inode).allocate(offset, len);
    }

    /// Gives room back; the bytes read zero.
    pub fn punch_hole(&mut self, inode: Inode, offset: u64, len: u64) {
        let len = len.min(self.file(inode).len().saturating_sub(offset));
        self.file_mut(inode).punch_hole(offset, len);
    }

    /// Makes bytes and length durable.
    pub fn sync_file(&mut self, inode: Inode) {
        self.file_mut(inode).sync();
    }

    /// Makes the pages that `len` bytes at `offset` lie in durable, and nothing else: what a write with FUA does to a disk.
    /// The file must not have changed its length since the last sync.
    pub fn sync_range(&mut self, inode: Inode, offset: u64, len: u64) {
        self.file_mut(inode).sync_range(offset, len);
    }

    /// Fails to make bytes durable, as a broken disk does: each changed page either reached the disk or never will, and
    /// a later [`sync_file`](Self::sync_file) says nothing of those that did not.
    pub fn fail_sync_file<R: Rng + ?Sized>(&mut self, inode: Inode, rng: &mut R) {
        self.file_mut(inode).fail_sync(rng);
    }

    /// Returns the length in bytes.
    pub fn len(&self, inode: Inode) -> u64 {
        self.file(inode).len()
    }

    /// Returns the next run of pages that are no holes.
    pub fn next_data(&self, inode: Inode, offset: u64) -> Option<Range<u64>> {
        self.file(inode).next_data(offset)
    }

    /// Returns the room that a write or a reservation would take beyond what the file has.
    pub fn missing_bytes(&self, inode: Inode, offset: u64, len: u64) -> u64 {
        self.file(inode).missing_bytes(offset, len)
    }

    /// Returns the room that all files with a name take, in bytes.
    pub fn allocated_bytes(&self) -> u64 {
        self.names
            .seen()
            .values()
            .map(|inode| self.stat_of(*inode).allocated_bytes)
            .sum()
    }

    fn file(&self, inode: Inode) -> &CachedFile {
        match &self.inodes[&inode] {
            Held::File { file, .. } => file,
            Held::Dir => panic!("{inode:?} is a directory"),
        }
    }

    fn file_mut(&mut self, inode: Inode) -> &mut CachedFile {
        match self.inodes.get_mut(&inode) {
            Some(Held::File { file, .. }) => Arc::make_mut(file),
            Some(Held::Dir) | None => panic!("{inode:?} is no file of this model"),
        }
    }
}

/// Names.
impl Model {
    fn create(&mut self, directory: Inode, name: &OsStr, held: Held) -> Inode {
        let inode = self.next;
        self.next = inode.next();
        let is_dir = matches!(held, Held::Dir);
        self.inodes.insert(inode, held);
        self.names.change(Change {
            inode,
            is_dir,
            from: None,
            to: Some((directory, name.to_owned())),
        });
        inode
    }

    fn remove(&mut self, directory: Inode, name: &OsStr, inode: Inode) {
        let is_dir = matches!(self.inodes[&inode], Held::Dir);
        self.names.change(Change {
            inode,
            is_dir,
            from: Some((directory, name.to_owned())),
            to: None,
        });
    }

    fn find(&self, path: &Path) -> Result<Inode> {
        let mut inode = Inode::ROOT;
        for name in parts(path) {
            inode = self
                .names
                .lookup(inode, name?)
                .ok_or_else(|| fault(ErrorKind::NotFound, path))?;
        }
        Ok(inode)
    }

    fn directory(&self, path: &Path) -> Result<Inode> {
        let inode = self.find(path)?;
        match &self.inodes[&inode] {
            Held::Dir => Ok(inode),
            Held::File { .. } => Err(fault(ErrorKind::NotADirectory, path)),
        }
    }

    /// The directory that `path` names something in, and that name.
    fn place<'a>(&self, path: &'a Path) -> Result<(Inode, &'a OsStr)> {
        let name = path
            .file_name()
            .ok_or_else(|| fault(ErrorKind::InvalidInput, path))?;
        Ok((self.directory(path.parent().unwrap_or(Path::new("")))?, name))
    }
}

fn parts(path: &Path) -> impl Iterator<Item = Result<&OsStr>> {
    path.components().filter_map(move |component| match component {
        Component::Normal(name) => Some(Ok(name)),
        Component::RootDir | Component::CurDir => None,
        Component::ParentDir | Component::Prefix(_) => Some(Err(fault(ErrorKind::InvalidInput, path))),
    })
}

fn fault(kind: ErrorKind, path: &Path) -> Error {
    Error::new(kind, format!("{}: {kind}", path.display()))
}

#[cfg(test)]
mod tests;
