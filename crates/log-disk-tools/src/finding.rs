//! PURE. What is wrong, where, and what to do about it.

use std::fmt;

use log_disk::{Flaw, ObjectSeq};

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key of the object where it was seen.
    pub key: String,
    /// What was seen.
    pub what: What,
}

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// There is no HEAD.
    NoHead,
    /// An object that is needed is not there.
    Missing,
    /// It cannot be read.
    Damaged(Flaw),
    /// It is not as long as it says, or as others say.
    Size {
        /// What is there, in bytes.
        found: u64,
        /// What should be.
        expected: u64,
    },
    /// A leaf of the map cannot be read.
    Leaf {
        /// Which.
        leaf: u32,
        /// Why.
        flaw: Flaw,
    },
    /// Blocks cannot be read.
    Blocks {
        /// First of them.
        lba: u64,
        /// How many.
        blocks: u64,
        /// Why.
        flaw: Flaw,
    },
    /// The map says that blocks lie here that do not.
    Misplaced {
        /// First of them.
        lba: u64,
        /// How many.
        blocks: u64,
    },
    /// The table of objects counts the blocks that are needed otherwise than the map.
    LiveBlocks {
        /// What the table says.
        table: u64,
        /// What the map says.
        map: u64,
    },
    /// The data object before this one is not there.
    Hole {
        /// Which it would be.
        previous: ObjectSeq,
    },
    /// Nothing refers to it.
    Orphan,
    /// Its key is none of ours.
    Stranger,
}

impl What {
    /// Tells whether anything of the disk is lost or in doubt.
    pub fn is_damage(self) -> bool {
        !matches!(self, Self::Orphan | Self::Stranger | Self::Hole { .. })
    }

    /// Returns what a person should do.
    pub fn advice(self) -> &'static str {
        match self {
            Self::NoHead | Self::Leaf { .. } => {
                "restore it from a replica or a version of the bucket; without one, salvage an image from the data objects"
            }
            Self::Missing | Self::Damaged(_) | Self::Size { .. } => {
                "restore the object from a replica or a version of the bucket; without one, salvage what is left"
            }
            Self::Blocks { .. } => {
                "restore the object from a replica or a version of the bucket, or write these blocks anew"
            }
            Self::Misplaced { .. } | Self::LiveBlocks { .. } => {
                "keep the bucket as it is, salvage an image from the data objects, and report this as a mistake of the program"
            }
            Self::Hole { .. } => {
                "attach the disk with its journal, which has what comes after; without the journal this is lost"
            }
            Self::Orphan => "nothing: the owner sweeps it away",
            Self::Stranger => "nothing, or delete it if you know what it is",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHead => write!(f, "there is no HEAD"),
            Self::Missing => write!(f, "it is missing"),
            Self::Damaged(flaw) => write!(f, "{flaw}"),
            Self::Size { found, expected } => write!(f, "it has {found} bytes instead of {expected}"),
            Self::Leaf { leaf, flaw } => write!(f, "leaf {leaf} of the map: {flaw}"),
            Self::Blocks { lba, blocks, flaw } => write!(f, "blocks {lba}+{blocks}: {flaw}"),
            Self::Misplaced { lba, blocks } => {
                write!(
                    f,
                    "the map says that blocks {lba}+{blocks} are here, and they are not"
                )
            }
            Self::LiveBlocks { table, map } => {
                write!(
                    f,
                    "the table counts {table} blocks that are needed, the map {map}"
                )
            }
            Self::Hole { previous } => write!(
                f,
                "the data object before it, {previous}, is not there: the history of the bucket ends before"
            ),
            Self::Orphan => write!(f, "nothing refers to it"),
            Self::Stranger => write!(f, "no object of a disk is called so"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.what.is_damage() { "damaged" } else { "noted" };
        write!(f, "{word}: {}: {}; {}", self.key, self.what, self.what.advice())
    }
}
