//! A disk with a volatile write cache, and a switch for its power.
//!
//! What a cut may leave is crashsafe's rule for a file: every 4 KiB page that was written and not flushed may be there in
//! its old version, its newest or one between, independent of the others, and torn at sectors.

use std::path::Path;

use crashsafe::{
    OpenOptions, RealDisk,
    model::{Inode, Model, Tree},
};
use rand::Rng;

const NAME: &str = "disk";

/// A disk in memory; what was never written takes none.
#[derive(Debug, Clone)]
pub(crate) struct VolatileDisk {
    model: Model,
    file: Inode,
}

impl VolatileDisk {
    /// Creates a disk of `bytes` zeros.
    pub(crate) fn new(bytes: u64) -> Self {
        let mut model = Model::default();
        let file = model
            .open(Path::new(NAME), OpenOptions::CREATE)
            .expect("a model takes a name");
        model.set_len(file, bytes);
        model.sync_file(file);
        model.sync_dir(Path::new("")).expect("a model has a root");
        Self { model, file }
    }

    /// Returns the disk as a power cut now may leave it.
    pub(crate) fn cut<R: Rng + ?Sized>(&self, rng: &mut R) -> Self {
        Self::powered(&self.model.crash(rng)).expect("the disk's name is durable")
    }

    /// Reads the disk that [`keep`](Self::keep) wrote.
    pub(crate) fn kept(dir: &Path) -> std::io::Result<Self> {
        Self::powered(&Tree::read(&RealDisk, dir)?)
    }

    fn powered(tree: &Tree) -> std::io::Result<Self> {
        let mut model = Model::new(tree);
        let file = model.open(Path::new(NAME), OpenOptions::READ_WRITE)?;
        Ok(Self { model, file })
    }

    /// Writes the disk as the file `disk` in `dir`, which must be empty.
    pub(crate) fn keep(&self, dir: &Path) -> std::io::Result<()> {
        let tree: Tree = self.model.seen();
        tree.write(&RealDisk, dir)
    }

    /// Returns the size in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.model.len(self.file)
    }

    /// Reads; the caller stays within the disk.
    pub(crate) fn read(&self, bytes: &mut [u8], offset: u64) {
        let count = self.model.read_at(self.file, bytes, offset);
        assert!(
            count == bytes.len(),
            "a read of {} bytes at {offset}",
            bytes.len()
        );
    }

    /// Writes into the cache.
    pub(crate) fn write(&mut self, bytes: &[u8], offset: u64) {
        self.model.write_at(self.file, bytes, offset);
    }

    /// Makes a range read zero, in the cache.
    pub(crate) fn zero(&mut self, offset: u64, len: u64) {
        self.model.punch_hole(self.file, offset, len);
    }

    /// Makes what was written to a range durable.
    pub(crate) fn force(&mut self, offset: u64, len: u64) {
        self.model.sync_range(self.file, offset, len);
    }

    /// Makes everything durable.
    pub(crate) fn flush(&mut self) {
        self.model.sync_file(self.file);
    }
}

#[cfg(test)]
mod tests;
