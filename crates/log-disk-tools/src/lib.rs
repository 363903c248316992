//! Looks at log-structured disks whose owner does not run: checks them, prints what their objects say, and makes an image of
//! what is left when the objects that tell what is valid are gone.
//!
//! Nothing here changes a bucket. Bytes come from a [`Bucket`], keys from the caller.

mod bucket;
mod dump;
mod finding;
mod fsck;
mod salvage;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod testing;

pub use bucket::{Bucket, BucketError, Listed};
pub use dump::{dump_checkpoint, dump_head, dump_journal, dump_object};
pub use finding::{Finding, What};
pub use fsck::{Checked, Depth, fsck};
pub use salvage::{Image, SalvageError, Salvaged, find_wrapped_key, salvage};
