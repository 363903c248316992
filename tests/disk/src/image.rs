//! What stands in the bucket, read without the engine and without faults.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bytes::Bytes;
use log_disk::{
    BLOCK_BYTES, Checkpoint, CheckpointRef, DiskId, Head, LEAF_BLOCKS, Layout, ObjectName, ObjectSeq, Role,
    Sealer, decode_leaf, head_key,
};
use objstore::{MemoryStore, ObjectStore};

use crate::guest::Image;
use crate::io::{PURPOSE, key};
use crate::stamp;

/// The bucket as it is.
#[derive(Debug)]
pub(crate) struct Bare<'a> {
    pub(crate) store: &'a MemoryStore,
    pub(crate) disk: DiskId,
    pub(crate) sealer: &'a Sealer,
}

impl Bare<'_> {
    pub(crate) async fn head(&self) -> Result<Head, String> {
        let object = self.store.get(&key(head_key(self.disk)), None, PURPOSE).await;
        let object = object.map_err(|error| error.to_string())?;
        Head::decode(self.sealer, &object.bytes).map_err(|flaw| format!("HEAD: {flaw}"))
    }

    async fn get(&self, name: ObjectName, range: Option<Range<u64>>) -> Result<Bytes, String> {
        let object = self.store.get(&key(name.key(self.disk)), range, PURPOSE).await;
        object
            .map(|object| object.bytes)
            .map_err(|error| error.to_string())
    }

    pub(crate) async fn names(&self) -> Result<BTreeSet<ObjectName>, String> {
        let mut names = BTreeSet::new();
        for role in [Role::Data, Role::Gc, Role::Checkpoint] {
            let prefix = ObjectName::prefix(self.disk, role);
            let page = self.store.list(&prefix, None, 100_000, PURPOSE).await;
            for entry in page.map_err(|error| error.to_string())?.entries {
                let rest = entry.key.as_str().strip_prefix(&prefix).unwrap_or_default();
                names.extend(ObjectName::parse(role, rest));
            }
        }
        Ok(names)
    }

    async fn checkpoint(&self, reference: &CheckpointRef) -> Result<Checkpoint, String> {
        let name = ObjectName {
            role: Role::Checkpoint,
            seq: reference.seq,
            epoch: reference.epoch,
        };
        let front = self.get(name, Some(0..reference.front_bytes)).await?;
        Checkpoint::open(self.sealer, &front).map_err(|flaw| format!("{name:?}: {flaw}"))
    }

    /// Everything that a checkpoint refers to is there.
    pub(crate) async fn check_references(&self, reference: &CheckpointRef) -> Result<(), String> {
        let checkpoint = self.checkpoint(reference).await?;
        let names = self.names().await?;
        for (seq, facts) in checkpoint.objects.iter().filter(|(_, facts)| facts.live > 0) {
            let name = checkpoint.objects.name(seq).ok_or("an object without a name")?;
            if !names.contains(&name) {
                return Err(format!(
                    "{name:?} is missing: {facts:?} in checkpoint {}",
                    reference.number
                ));
            }
        }
        Ok(())
    }

    /// The blocks `wanted` as a checkpoint has them.
    pub(crate) async fn read(&self, reference: &CheckpointRef, wanted: &[u64]) -> Result<Image, String> {
        let checkpoint = self.checkpoint(reference).await?;
        let mut image: Image = wanted.iter().map(|lba| (*lba, 0)).collect();
        let mut layouts: BTreeMap<ObjectSeq, (ObjectName, Layout)> = BTreeMap::new();
        for (leaf, place) in &checkpoint.leaves {
            let name = ObjectName {
                role: Role::Checkpoint,
                seq: place.object,
                epoch: place.epoch,
            };
            let end = place.offset + u64::from(place.bytes);
            let stored = self.get(name, Some(place.offset..end)).await?;
            let flawed = |flaw: log_disk::Flaw| format!("leaf {leaf}: {flaw}");
            let plain = Checkpoint::open_leaf(self.sealer, *leaf, place, &stored).map_err(flawed)?;
            let runs = decode_leaf(*leaf, &plain).map_err(flawed)?;
            let begin = u64::from(*leaf) * LEAF_BLOCKS;
            for part in runs.parts(begin, LEAF_BLOCKS) {
                let Some(location) = part.value else { continue };
                let name = checkpoint
                    .objects
                    .name(location.object)
                    .ok_or("a run of no object")?;
                let (name, layout) = match layouts.entry(location.object) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(room) => {
                        let bytes = self.get(name, None).await?;
                        let layout = Layout::open(self.sealer, &bytes);
                        room.insert((name, layout.map_err(|flaw| format!("{name:?}: {flaw}"))?))
                    }
                };
                for skip in 0..part.blocks {
                    let lba = part.start + skip;
                    let Some(stamp) = image.get_mut(&lba) else {
                        continue;
                    };
                    let at = location.at + u32::try_from(skip).map_err(|error| error.to_string())?;
                    let (index, before) = layout.find(at).ok_or("a run past its object's end")?;
                    let extent = &layout.extents[index];
                    if extent.lba.0 + before != lba {
                        return Err(format!(
                            "block {lba} lies where {name:?} has {}",
                            extent.lba.0 + before
                        ));
                    }
                    let stored = self.get(*name, Some(extent.stored.clone())).await?;
                    let opened = layout.open_extent(self.sealer, index, &stored);
                    let plain = opened.map_err(|flaw| format!("{name:?}: {flaw}"))?;
                    let from = usize::try_from(before).map_err(|error| error.to_string())? * BLOCK_BYTES;
                    *stamp = stamp::read(lba, &plain[from..from + BLOCK_BYTES])?;
                }
            }
        }
        Ok(image)
    }
}
