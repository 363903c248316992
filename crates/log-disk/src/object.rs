//! PURE. Data objects: written extents, compressed and sealed one by one, with a table of them in front.

mod layout;
mod write;

pub use layout::{Extent, ExtentRead, Layout, ObjectHeader, ObjectKind, PREFIX_BYTES};
pub use write::{SealedObject, Source, SourceRun, ToSeal, seal_object};

/// Most blocks of an extent that carries data: the least that is read from S3 at a time.
pub const EXTENT_BLOCKS_MAX: u64 = 16;
/// Most extents of an object.
pub const EXTENTS_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests;
