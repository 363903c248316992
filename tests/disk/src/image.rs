//! What stands in the bucket, read without the engine and without faults.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use log_disk::{
    BLOCK_BYTES, Checkpoint, CheckpointRef, DiskId, Head, LEAF_BLOCKS, Layout, Lineage, ObjectName,
    ObjectSeq, Pin, Role, Sealer, decode_leaf, head_key,
};
use objstore::{MemoryStore, ObjectStore};

use crate::game::Common;
use crate::guest::Image;
use crate::io::{PURPOSE, key};
use crate::stamp;

/// The bucket as it is.
pub(crate) struct Bare<'a> {
    pub(crate) store: &'a MemoryStore,
    pub(crate) disk: DiskId,
    pub(crate) common: &'a Common,
}

impl Bare<'_> {
    pub(crate) async fn head(&self) -> Result<Head, String> {
        let object = self.store.get(&key(head_key(self.disk)), None, PURPOSE).await;
        let object = object.map_err(|error| error.to_string())?;
        Head::decode(&self.common.sealer(self.disk), &object.bytes).map_err(|flaw| format!("HEAD: {flaw}"))
    }

    /// The keys of the disks that it was forked from.
    pub(crate) async fn bases(&self) -> Result<Vec<Arc<Sealer>>, String> {
        let head = self.head().await?;
        Ok(head
            .bases
            .iter()
            .map(|base| self.common.sealer(base.disk))
            .collect())
    }

    pub(crate) async fn lineage(&self) -> Result<Lineage, String> {
        let own = self.common.sealer(self.disk);
        Lineage::new(&self.head().await?, own, &self.bases().await?).map_err(|error| error.to_string())
    }

    pub(crate) async fn pins(&self) -> Result<Vec<Pin>, String> {
        let prefix = Pin::prefix(self.disk);
        let page = self.store.list(&prefix, None, 1000, PURPOSE).await;
        let entries = page.map_err(|error| error.to_string())?.entries;
        let rest = |key: &str| key.strip_prefix(&prefix).and_then(Pin::parse);
        Ok(entries
            .iter()
            .filter_map(|entry| rest(entry.key.as_str()))
            .collect())
    }

    async fn get(
        &self,
        lineage: &Lineage,
        name: ObjectName,
        range: Option<Range<u64>>,
    ) -> Result<Bytes, String> {
        let home = lineage.home(name.seq);
        let object = self.store.get(&key(name.key(home)), range, PURPOSE).await;
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

    async fn checkpoint(&self, lineage: &Lineage, reference: &CheckpointRef) -> Result<Checkpoint, String> {
        let name = reference.name();
        let front = self.get(lineage, name, Some(0..reference.front_bytes)).await?;
        Checkpoint::open(lineage.sealer(name.seq), &front).map_err(|flaw| format!("{name:?}: {flaw}"))
    }

    /// Everything that a checkpoint refers to is there.
    pub(crate) async fn check_references(&self, reference: &CheckpointRef) -> Result<(), String> {
        let lineage = self.lineage().await?;
        let checkpoint = self.checkpoint(&lineage, reference).await?;
        let mut names = self.names().await?;
        for base in self.head().await?.bases {
            let theirs = self.common.bare(base.disk).names().await?;
            names.extend(
                theirs
                    .into_iter()
                    .filter(|name| lineage.home(name.seq) == base.disk),
            );
        }
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
        let lineage = self.lineage().await?;
        let checkpoint = self.checkpoint(&lineage, reference).await?;
        let mut image: Image = wanted.iter().map(|lba| (*lba, 0)).collect();
        let mut layouts: BTreeMap<ObjectSeq, (ObjectName, Layout)> = BTreeMap::new();
        for (leaf, place) in &checkpoint.leaves {
            let name = ObjectName {
                role: Role::Checkpoint,
                seq: place.object,
                epoch: place.epoch,
            };
            let end = place.offset + u64::from(place.bytes);
            let stored = self.get(&lineage, name, Some(place.offset..end)).await?;
            let flawed = |flaw: log_disk::Flaw| format!("leaf {leaf}: {flaw}");
            let plain =
                Checkpoint::open_leaf(lineage.sealer(place.object), *leaf, place, &stored).map_err(flawed)?;
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
                        let bytes = self.get(&lineage, name, None).await?;
                        let layout = Layout::open(lineage.sealer(name.seq), &bytes);
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
                    let stored = self.get(&lineage, *name, Some(extent.stored.clone())).await?;
                    let opened = layout.open_extent(lineage.sealer(name.seq), index, &stored);
                    let plain = opened.map_err(|flaw| format!("{name:?}: {flaw}"))?;
                    let from = usize::try_from(before).map_err(|error| error.to_string())? * BLOCK_BYTES;
                    *stamp = stamp::read(lba, &plain[from..from + BLOCK_BYTES])?;
                }
            }
        }
        Ok(image)
    }
}
