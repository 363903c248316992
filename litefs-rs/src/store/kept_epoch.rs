//! Under which primary a node last had everything.

use std::{io, path::Path};

use crashsafe::{Disk, OpenOptions};
use lease::{Epoch, NodeId};

const LABEL: &str = "epoch";
const NAME: &str = "epoch";
const MODE: u32 = 0o666;
/// More than it ever is, in bytes.
const BYTES_MAX: u64 = 256;

/// Under which primary a node last had everything: `<data>/epoch`, the epoch in decimal, and if the primary was this node itself, a
/// space and what it called itself then. LiteFS leaves the file alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptEpoch {
    /// The epoch; nothing under a primary that was chosen by hand.
    pub epoch: Epoch,
    /// Who this node was, if it was primary.
    pub node: Option<NodeId>,
}

impl KeptEpoch {
    /// Reads what is kept. What cannot be read is as good as nothing: the node only counts as further behind than it is.
    ///
    /// # Errors
    /// As the disk.
    pub fn read(disk: &dyn Disk, root: &Path) -> io::Result<Self> {
        let path = root.join(NAME);
        let Some(stat) = disk.stat(&path)? else {
            return Ok(Self::default());
        };
        let mut bytes = vec![0; usize::try_from(stat.len.min(BYTES_MAX)).unwrap_or(0)];
        disk.open(LABEL, &path, OpenOptions::READ)?
            .read_exact_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes);
        let mut words = text.split_whitespace();
        let epoch = words.next().and_then(|epoch| epoch.parse().ok());
        Ok(epoch.map_or_else(Self::default, |epoch| Self {
            epoch: Epoch(epoch),
            node: words.next().map(|node| NodeId(node.to_owned())),
        }))
    }

    /// Keeps it, durably.
    ///
    /// # Errors
    /// As the disk.
    pub fn write(&self, disk: &dyn Disk, root: &Path) -> io::Result<()> {
        let node = self
            .node
            .as_ref()
            .map_or_else(String::new, |node| format!(" {node}"));
        let text = format!("{}{node}\n", self.epoch);
        crashsafe::write_atomic(disk, LABEL, &root.join(NAME), text.as_bytes(), MODE)
    }
}
