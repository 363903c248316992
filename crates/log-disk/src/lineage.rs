//! PURE. Whose an object is, now that a disk can begin with another's.

use std::sync::Arc;

use crate::head::Head;
use crate::{DiskId, ObjectSeq, Sealer};

/// The keys of a disk and of those that it was forked from, by the objects that each has.
///
/// A fork's objects continue the numbers of the disk that it was forked from, so a seq alone says whose it is.
#[derive(Debug, Clone)]
pub struct Lineage {
    own: Arc<Sealer>,
    /// The last seq of each, ascending.
    bases: Vec<(ObjectSeq, Arc<Sealer>)>,
}

/// A key is missing: of this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no key was given for disk {disk}, which this one was forked from")]
pub struct NoKey {
    /// Which.
    pub disk: DiskId,
}

impl Lineage {
    /// Creates the lineage of the disk that `head` is of; `bases` has a sealer for each of [`Head::bases`], in any order.
    ///
    /// # Errors
    /// [`NoKey`] of the first that is missing.
    pub fn new(head: &Head, own: Arc<Sealer>, bases: &[Arc<Sealer>]) -> Result<Self, NoKey> {
        let bases = head.bases.iter().map(|base| {
            let sealer = bases.iter().find(|sealer| sealer.disk() == base.disk);
            let sealer = sealer.ok_or(NoKey { disk: base.disk })?;
            Ok((base.last, Arc::clone(sealer)))
        });
        Ok(Self {
            own,
            bases: bases.collect::<Result<_, _>>()?,
        })
    }

    /// Creates the lineage of a disk that was not forked from another.
    #[must_use]
    pub fn alone(own: Arc<Sealer>) -> Self {
        Self {
            own,
            bases: Vec::new(),
        }
    }

    /// Returns what seals the disk's own objects.
    #[must_use]
    pub fn own(&self) -> &Arc<Sealer> {
        &self.own
    }

    /// Returns what seals an object.
    #[must_use]
    pub fn sealer(&self, object: ObjectSeq) -> &Arc<Sealer> {
        let base = self.bases.iter().find(|(last, _)| object <= *last);
        base.map_or(&self.own, |(_, sealer)| sealer)
    }

    /// Returns the disk below whose prefix an object lies.
    #[must_use]
    pub fn home(&self, object: ObjectSeq) -> DiskId {
        self.sealer(object).disk()
    }

    /// Returns the last seq of an object that is another disk's; 0 when none is.
    #[must_use]
    pub fn inherited(&self) -> ObjectSeq {
        self.bases.last().map_or(ObjectSeq(0), |(last, _)| *last)
    }
}
