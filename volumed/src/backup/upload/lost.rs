//! Whether a base still has its blocks: a lost one would be lost to every backup that builds on it.

use std::collections::BTreeSet;

use objstore::{ListError, ObjectStore};

use crate::backup::BLOCK;
use crate::backup::damage::{Damage, Flaw};
use crate::backup::fetch::list_all;
use crate::backup::manifest::Manifest;
use crate::backup::names::{BlockName, blocks_prefix};

/// Looks for the blocks of `base` in the bucket's listing, and returns the first that is not there.
///
/// One request for a thousand blocks of the volume. That a block which is there also opens is for the scrubber to find.
pub(super) async fn block(store: &dyn ObjectStore, base: &Manifest) -> Result<Option<Damage>, ListError> {
    let volume_id = &base.head.volume_id;
    let wanted: BTreeSet<BlockName> = base
        .data_blocks()
        .map(|(_, address, writer)| BlockName {
            writer: writer.to_owned(),
            address,
        })
        .collect();
    if wanted.is_empty() {
        return Ok(None);
    }
    let entries = list_all(store, &blocks_prefix(volume_id), BLOCK).await?;
    let listed: BTreeSet<BlockName> = entries
        .iter()
        .filter_map(|entry| BlockName::of_key(volume_id, &entry.key))
        .collect();
    Ok(wanted.difference(&listed).next().map(|name| Damage {
        object: name.key(volume_id),
        flaw: Flaw::Missing,
    }))
}
