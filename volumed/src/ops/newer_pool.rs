//! PURE
//! A pool that knows more than the catalog: the catalog was restored from a backup of its own, or the pool comes from
//! another host.
//!
//! A slice's record comes before it and goes after it, and its size never is ahead of what the record allows. So a slice
//! without a record, or a larger one, says that the catalog is not the one that the pool was last used with. What such a
//! catalog wants done is not done: the operations that it has running ended long ago, one way or the other, and what it has
//! as deleted may be in use again. Nothing here touches a slice.

use std::collections::BTreeSet;

use jiff::Timestamp;
use operation::{OperationId, Record};

use crate::pool::{Found, SliceId};
use crate::retention::Counts;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{FsType, GIB, Origin, SizeGb, SnapshotId, Volume, VolumeId, VolumeState};

#[cfg(test)]
mod tests;

/// Added to generations that the catalog has forgotten some of: more than a volume changes hands between two backups of
/// a catalog, so that no generation is given out twice.
const FORGOTTEN_GENERATIONS: u64 = 1 << 20;

/// What the catalog has, destroyed volumes and running operations included.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) volumes: Vec<Volume>,
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) running: Vec<Record>,
}

/// What becomes of the records of one pool in a catalog that is older than the pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Amends {
    /// Volumes as they are from here on, each with a sentence.
    pub(super) volumes: Vec<(Volume, String)>,
    /// Operations that are not resumed.
    pub(super) abandoned: Vec<OperationId>,
    /// Snapshots of which the bucket knows more.
    pub(super) forgotten: Vec<SnapshotId>,
}

/// Returns what must become of the records of `pool`; none when they are no older than its slices.
pub(super) fn amends(pool: &str, records: &Records, found: &[Found]) -> Option<Amends> {
    let newer = |found: &Found| match (&found.id, found.size_bytes) {
        (SliceId::Volume(id), Some(size)) if found.complete => {
            match records.volumes.iter().find(|v| v.id == *id) {
                Some(volume) => volume.exists() && size > volume.promised_bytes(),
                None => true,
            }
        }
        // Captures come and go without a trace; of other pools nothing is known.
        (SliceId::Volume(_) | SliceId::Capture(_), _) => false,
    };
    let here = |v: &&Volume| v.exists() && v.pool == pool;
    if !found.iter().any(newer) || !records.volumes.iter().any(|v| here(&v)) {
        return None;
    }
    let mut amends = Amends::default();
    for volume in records.volumes.iter().filter(here) {
        let slice = found
            .iter()
            .find(|f| f.complete && f.id == SliceId::Volume(volume.id.clone()));
        let Some(slice) = slice else { continue };
        amends.volumes.push(amended(volume, slice));
    }
    let ids: BTreeSet<&VolumeId> = records.volumes.iter().filter(here).map(|v| &v.id).collect();
    let of_it = |s: &&Snapshot| ids.contains(&s.volume_id) && s.state != SnapshotState::Created;
    let forgotten = records.snapshots.iter().filter(of_it);
    amends.forgotten = forgotten.map(|s| s.id.clone()).collect();
    let subjects: BTreeSet<&str> = ids
        .iter()
        .map(|id| id.as_str())
        .chain(
            records
                .snapshots
                .iter()
                .filter(|s| ids.contains(&s.volume_id))
                .map(|s| s.id.as_str()),
        )
        .collect();
    let running = records
        .running
        .iter()
        .filter(|r| subjects.contains(r.subject.as_str()));
    amends.abandoned = running.map(|r| r.id.clone()).collect();
    Some(amends)
}

fn amended(volume: &Volume, slice: &Found) -> (Volume, String) {
    let mut now = volume.clone();
    let mut what = Vec::new();
    match volume.state {
        VolumeState::Created => {}
        VolumeState::PendingDestroy
        | VolumeState::SchedulingDestroy
        | VolumeState::Destroying
        | VolumeState::Recovering => {
            what.push(
                "it was deleted, and is kept because it may have been recovered: delete it again".to_owned(),
            );
        }
        VolumeState::Creating | VolumeState::Restoring | VolumeState::Hydrating => {
            what.push("it was being filled, and is taken to be whole".to_owned());
        }
        VolumeState::Extending => what.push("it was being extended".to_owned()),
        VolumeState::Draining => what.push("it was being drained: drain it again".to_owned()),
        VolumeState::Destroyed => unreachable!("only volumes that exist are amended"),
    }
    (now.state, now.deleted_at, now.purge_after, now.extending_to) = (VolumeState::Created, None, None, None);
    let size = slice
        .size_bytes
        .map(SizeGb::holding)
        .filter(|size| *size > volume.size);
    if let Some(size) = size {
        now.size = size;
        what.push(format!("it has {} GB, not {}", size.get(), volume.size.get()));
    }
    now.generation += FORGOTTEN_GENERATIONS;
    if what.is_empty() {
        what.push("nothing else is different".to_owned());
    }
    let sentence = format!(
        "the catalog is older than pool {}: {}",
        volume.pool,
        what.join("; ")
    );
    (now, sentence)
}

/// Where an adopted volume comes to be.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) pool: String,
    pub(crate) region: String,
    pub(crate) zone: String,
    pub(crate) now: Timestamp,
}

/// Makes the record of a slice that nobody knows, or says why that cannot be.
///
/// * `record`: of the same id, of a volume that is gone.
/// * `newest`: the newest finished snapshot of it that the bucket has. It tells whose the volume is, and holds its key.
pub(crate) fn adopted(
    home: &Home,
    found: &Found,
    record: Option<&Volume>,
    newest: Option<&Snapshot>,
) -> Result<Volume, String> {
    let SliceId::Volume(id) = &found.id else {
        return Err(
            "it is the capture of a snapshot that is not being taken; remove it when you do not miss it"
                .to_owned(),
        );
    };
    if record.is_some() {
        return Err(
            "its volume was destroyed, and it was not removed; remove it when you do not miss it".to_owned(),
        );
    }
    if !found.complete {
        return Err("it was never finished; remove it".to_owned());
    }
    let (Some(size_bytes), Some(encrypted)) = (found.size_bytes, found.encrypted) else {
        return Err("nothing says how large its volume is".to_owned());
    };
    let Some(newest) = newest else {
        return Err(
            "the bucket has no snapshot of its volume, so neither its app nor its key is known".to_owned(),
        );
    };
    if newest.encrypted != encrypted {
        return Err(format!(
            "snapshot {} of its volume says otherwise whether it is encrypted",
            newest.id
        ));
    }
    let size = SizeGb::holding(size_bytes);
    if size.bytes() != size_bytes || size_bytes < GIB {
        return Err(format!("a volume has whole GB, and it has {size_bytes} bytes"));
    }
    Ok(Volume {
        id: id.clone(),
        app: newest.app.clone(),
        name: newest.volume_name.clone(),
        region: home.region.clone(),
        zone: home.zone.clone(),
        size,
        extending_to: None,
        state: VolumeState::Created,
        pool: home.pool.clone(),
        encrypted,
        fstype: FsType::parse(&newest.fstype).unwrap_or(FsType::Ext4),
        formatted: newest.formatted,
        ever_attached: true,
        snapshot_retention: newest.retention_days,
        snapshot_counts: Counts::default(),
        auto_backup_enabled: true,
        attached_machine_id: None,
        host_path: None,
        generation: newest.generation + FORGOTTEN_GENERATIONS,
        usage: None,
        needs_restart: false,
        origin: Origin::Empty,
        wrapped_key: newest.wrapped_key.clone(),
        created_at: home.now,
        updated_at: home.now,
        deleted_at: None,
        purge_after: None,
        last_verified_restore: newest.last_verified,
        scheduled_slot: None,
        auto_extended_from_bytes: None,
        auto_extend_blocked: None,
        snapshot_blocked: None,
        left_at: None,
        failure: None,
    })
}
