//! What must hold.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::time::Duration;

use daemon::wall_clock::WallClock as _;
use jiff::SignedDuration;
use sim::StoreFaults;
use volumed::backup::{self, Progress, RangeReader, SnapshotRef};
use volumed::pool::SliceId;
use volumed::service::Service;
use volumed::snapshot::{Snapshot, SnapshotState};
use volumed::volume::{Origin, Volume, VolumeState};

use super::actions::Game;
use super::host::{BLOCK, Content, Running, SPOTS, images, stamp_of};
use super::model::{Base, Deletion, Snap, Vol};

impl Game {
    /// Compares volumed's records with the model, and learns what lost answers left open.
    pub(super) async fn look(&mut self, service: &Service) -> Result<(), String> {
        let failed = |e: volumed::error::Refusal| format!("records cannot be read: {e}");
        let records = service.volumes(None, true).await.map_err(failed)?;
        let running = service.running().await.map_err(failed)?;
        let catalog = &service.context().catalog;
        let snapshots = catalog
            .transact(|tx| Ok(tx.snapshots()?))
            .await
            .map_err(|e| e.to_string())?;
        self.latest = self.latest.max(self.host.world.clock().now());
        no_overlap(&snapshots)?;
        for record in &records {
            self.known(record)?;
        }
        self.model.note_early();
        let by_id: BTreeMap<String, &Volume> = records.iter().map(|r| (r.id.to_string(), r)).collect();
        for id in self.model.volumes.keys().cloned().collect::<Vec<_>>() {
            self.volume(service, &id, by_id.get(&id).copied(), &running)
                .await?;
        }
        for snapshot in &snapshots {
            self.snapshot_known(snapshot)?;
        }
        self.snapshots_kept(&snapshots)?;
        if self.calm {
            self.snapshot_contents(service, &snapshots).await?;
        }
        Ok(())
    }

    /// A volume that the model does not know must come from a request whose answer was lost.
    fn known(&mut self, record: &Volume) -> Result<(), String> {
        let id = record.id.to_string();
        if self.model.volumes.contains_key(&id) {
            return Ok(());
        }
        let fits = |base: &Base| match (&record.origin, base) {
            (Origin::Empty, Base::Empty) => true,
            (Origin::Snapshot { snapshot_id }, Base::Snapshot { id }) => snapshot_id.as_str() == id,
            (Origin::Fork { volume_id }, Base::Volume { id, .. }) => volume_id.as_str() == id,
            _ => false,
        };
        let Some(index) = self.model.lost_creates.iter().position(fits) else {
            return Err(format!("{id}: nobody asked for it: {:?}", record.origin));
        };
        let base = self.model.lost_creates.remove(index);
        self.model.volumes.insert(id, Vol::new(record.size.get(), base));
        Ok(())
    }

    async fn volume(
        &mut self,
        service: &Service,
        id: &str,
        record: Option<&Volume>,
        running: &HashMap<String, String>,
    ) -> Result<(), String> {
        let now = self.latest;
        let Some(vol) = self.model.volumes.get_mut(id) else {
            return Ok(());
        };
        let record = record.filter(|r| r.state != VolumeState::Destroyed);
        let Some(record) = record else {
            // Never ready: its creation was undone. Otherwise only a deletion whose grace is over ends it.
            if vol.gone || !vol.ready || vol.deletion != Deletion::No {
                vol.gone = true;
                return Ok(());
            }
            return Err(format!("{id}: an acknowledged volume is lost"));
        };
        if vol.gone {
            return Err(format!(
                "{id}: it was gone and is back in state {:?}",
                record.state
            ));
        }
        let size = record.size.get();
        if !(vol.size_gb.0..=vol.size_gb.1).contains(&size) && vol.ready {
            return Err(format!("{id}: {size} GB, expected {:?}", vol.size_gb));
        }
        if record.generation < vol.generation {
            return Err(format!(
                "{id}: generation {} after {}",
                record.generation, vol.generation
            ));
        }
        if !vol.holders.contains(&record.attached_machine_id) {
            return Err(format!(
                "{id}: held by {:?}, expected {:?}",
                record.attached_machine_id, vol.holders
            ));
        }
        let deleted = record.deleted_at.is_some();
        if deleted && vol.deletion == Deletion::No {
            return Err(format!("{id}: deleted by nobody, state {:?}", record.state));
        }
        if record.state == VolumeState::Created && vol.deletion == Deletion::Yes {
            return Err(format!("{id}: a deleted volume is back"));
        }
        if vol.doomed && record.state != VolumeState::Destroying {
            return Err(format!(
                "{id}: deleted before it was ready, and now {:?}",
                record.state
            ));
        }
        if record.state == VolumeState::Destroying && record.purge_after.is_some_and(|at| at > now) {
            return Err(format!("{id}: removed before its grace was over"));
        }
        vol.generation = record.generation;
        if running.contains_key(id) {
            return Ok(());
        }
        vol.size_gb = (size, size);
        vol.holders = vec![record.attached_machine_id.clone()];
        vol.deletion = if deleted { Deletion::Yes } else { Deletion::No };
        if record.state == VolumeState::Created {
            vol.ready = true;
            let content = self.read_volume(service, record).await?;
            self.volume_content(id, content)?;
        }
        Ok(())
    }

    fn volume_content(&mut self, id: &str, content: Content) -> Result<(), String> {
        let vol = &self.model.volumes[id];
        let Some(base) = vol.base.clone() else {
            let expected = &vol.history[vol.now()];
            if *expected == content {
                return Ok(());
            }
            return Err(format!("{id}: holds {content:?}, expected {expected:?}"));
        };
        self.check_base(id, &base, &content)?;
        // Its guest may have written already; the base is what was there before.
        self.model.vol(id, |v| {
            v.base = None;
            v.history = vec![content];
        });
        Ok(())
    }

    fn check_base(&mut self, id: &str, base: &Base, content: &Content) -> Result<(), String> {
        match base {
            Base::Empty if content.is_empty() => Ok(()),
            Base::Empty => Err(format!("{id}: an empty volume holds {content:?}")),
            Base::Volume { id: source, from } => {
                let history = &self.model.volumes[source].history;
                let range = &history[(*from).min(history.len() - 1)..];
                if range.contains(content) {
                    return Ok(());
                }
                Err(format!(
                    "{id}: holds {content:?}, which its source {source} never did since the request: {range:?}"
                ))
            }
            Base::Snapshot { id: source } => self.snapshot_content(source, content.clone()),
        }
    }

    fn snapshot_known(&mut self, record: &Snapshot) -> Result<(), String> {
        let id = record.id.to_string();
        if self.model.snapshots.contains_key(&id) {
            return Ok(());
        }
        let volume = record.volume_id.to_string();
        let lost = self.model.lost_snapshots.iter().position(|(v, _)| *v == volume);
        let from = match lost {
            _ if record.scheduled => 0,
            Some(index) => self.model.lost_snapshots.remove(index).1,
            None => return Err(format!("{id}: nobody asked for this snapshot of {volume}")),
        };
        self.model.snapshots.insert(
            id,
            Snap {
                volume,
                from,
                to: None,
                content: None,
                expires_at: record.expires_at(),
                deleted: false,
            },
        );
        Ok(())
    }

    /// A snapshot that somebody was told of stays until it is deleted or its retention is over.
    fn snapshots_kept(&mut self, records: &[Snapshot]) -> Result<(), String> {
        let kept: BTreeSet<String> = records.iter().map(|r| r.id.to_string()).collect();
        let now = self.latest;
        for record in records {
            // The moment it was asked for gives way to the moment it was taken.
            self.model.snap(record.id.as_str(), |s| {
                s.expires_at = s.expires_at.max(record.expires_at())
            });
        }
        for snap in self.model.snapshots.values_mut() {
            // It may expire and be removed between two looks.
            snap.deleted |= snap.expires_at <= now;
        }
        for (id, snap) in &self.model.snapshots {
            if !kept.contains(id) && !snap.deleted && snap.to.is_some() {
                return Err(format!(
                    "{id}: an acknowledged snapshot of {} is lost",
                    snap.volume
                ));
            }
        }
        self.model
            .snapshots
            .retain(|id, snap| kept.contains(id) || !snap.deleted || snap.content.is_some());
        Ok(())
    }

    async fn snapshot_contents(&mut self, service: &Service, records: &[Snapshot]) -> Result<(), String> {
        for record in records.iter().filter(|r| r.state == SnapshotState::Created) {
            let id = record.id.to_string();
            let Some(snap) = self.model.snapshots.get(&id) else {
                continue;
            };
            if snap.content.is_some() || snap.deleted {
                continue;
            }
            let content = read_snapshot(service, record).await?;
            self.snapshot_content(&id, content)?;
        }
        Ok(())
    }

    /// A snapshot holds what its volume held at one moment.
    fn snapshot_content(&mut self, id: &str, content: Content) -> Result<(), String> {
        let Some(snap) = self.model.snapshots.get_mut(id) else {
            return Ok(());
        };
        if let Some(known) = &snap.content {
            if *known == content {
                return Ok(());
            }
            return Err(format!("{id}: held {known:?} and now {content:?}"));
        }
        let history = &self.model.volumes[&snap.volume].history;
        let last = history.len() - 1;
        let range = &history[snap.from.min(last)..=snap.to.unwrap_or(last).min(last)];
        if !range.contains(&content) {
            return Err(format!(
                "{id}: holds {content:?}, which {} never did in time: {range:?}",
                snap.volume
            ));
        }
        snap.content = Some(content);
        Ok(())
    }

    async fn read_volume(&self, service: &Service, record: &Volume) -> Result<Content, String> {
        let device = service
            .context()
            .device(record)
            .await
            .map_err(|e| format!("{}: {e}", record.id))?;
        let image = images(&self.host.disk)
            .open_source(&device.path, record.size.bytes(), &device.layout)
            .await;
        let image = image.map_err(|e| format!("{}: {e}", record.id))?;
        let mut content = Content::new();
        for (spot, offset) in SPOTS.into_iter().enumerate() {
            let bytes = volumed::bulk::ImageSource::read_at(&image, offset, BLOCK).await;
            let bytes = bytes.map_err(|e| format!("{}: read at {offset}: {e}", record.id))?;
            if let Some(stamp) = stamp_of(&bytes).map_err(|e| format!("{} at {offset}: {e}", record.id))? {
                content.insert(spot, stamp);
            }
        }
        Ok(content)
    }

    /// The last act: good weather, everything comes to rest, and everything must agree.
    pub(super) async fn finish(&mut self, running: Running) -> Result<(), String> {
        self.host.store.set_faults(StoreFaults::CALM);
        self.calm = true;
        self.host.runner.calm.store(true, Ordering::SeqCst);
        let running = self.restart(running).await?;
        let service = running.service.clone();
        self.host.store.settle().await;
        service
            .adopt(Duration::from_secs(3600))
            .await
            .map_err(|e| format!("bucket: {e}"))?;
        quiet(&service).await?;
        self.look(&service).await?;
        self.agreement(&service).await?;
        // Garbage collection, twice and a grace apart, takes nothing that a snapshot needs.
        service.collect_garbage().await;
        self.host.world.clock().jump(SignedDuration::from_hours(25));
        let collected = service.collect_garbage().await;
        if let Some(error) = collected.errors.first() {
            return Err(format!("garbage collection: {error}"));
        }
        self.all_whole(&service).await?;
        self.host.kill(running).await;
        Ok(())
    }

    async fn agreement(&self, service: &Service) -> Result<(), String> {
        let ctx = service.context();
        if let Some(stray) = volumed::ops::strays(ctx).await.first() {
            return Err(format!("a slice without a record: {stray:?}"));
        }
        let pool = ctx.pools.get("default").ok_or("no pool")?;
        let found = pool.list().await.map_err(|e| format!("list pool: {e}"))?;
        if let Some(unfinished) = found.iter().find(|f| !f.complete) {
            return Err(format!("an unfinished slice is left: {unfinished:?}"));
        }
        let found: BTreeSet<SliceId> = found.into_iter().map(|f| f.id).collect();
        for record in service.volumes(None, false).await.map_err(|e| e.to_string())? {
            if record.state == VolumeState::Destroying {
                return Err(format!("{}: nobody goes on removing it", record.id));
            }
            if !found.contains(&SliceId::Volume(record.id.clone())) {
                return Err(format!(
                    "{}: a record without a slice, state {:?}",
                    record.id, record.state
                ));
            }
        }
        let records = service.snapshots(None).await.map_err(|e| e.to_string())?;
        let records: BTreeSet<String> = records.iter().map(|r| r.id.to_string()).collect();
        let listing = backup::list(&ctx.backups())
            .await
            .map_err(|e| format!("list backups: {e}"))?;
        if let Some(damage) = listing.unreadable.first() {
            return Err(format!("an unreadable manifest: {damage}"));
        }
        let stored: BTreeSet<String> = listing.heads.into_iter().map(|h| h.snapshot_id).collect();
        if records != stored {
            return Err(format!(
                "snapshots in the catalog {records:?}, in the bucket {stored:?}"
            ));
        }
        Ok(())
    }

    async fn all_whole(&self, service: &Service) -> Result<(), String> {
        let backups = service.context().backups();
        for record in service.snapshots(None).await.map_err(|e| e.to_string())? {
            let reference =
                SnapshotRef::new(record.volume_id.as_str(), record.id.as_str()).map_err(|e| e.to_string())?;
            let report = backup::verify(&backups, &reference, &Progress::default()).await;
            let report = report.map_err(|e| format!("{}: verify: {e}", record.id))?;
            if let Some(damage) = report.damages.first() {
                return Err(format!("{}: damaged: {damage}", record.id));
            }
        }
        Ok(())
    }
}

/// Of a volume at most one scheduled snapshot is under way.
fn no_overlap(records: &[Snapshot]) -> Result<(), String> {
    let mut busy = BTreeSet::new();
    for record in records.iter().filter(|r| r.scheduled && r.in_progress()) {
        if !busy.insert(&record.volume_id) {
            return Err(format!(
                "{}: two scheduled snapshots of {} at once",
                record.id, record.volume_id
            ));
        }
    }
    Ok(())
}

async fn read_snapshot(service: &Service, record: &Snapshot) -> Result<Content, String> {
    let failed = |e: &dyn std::fmt::Display| format!("{}: {e}", record.id);
    let reference =
        SnapshotRef::new(record.volume_id.as_str(), record.id.as_str()).map_err(|e| failed(&e))?;
    let reader = RangeReader::open(&service.context().backups(), &reference)
        .await
        .map_err(|e| failed(&e))?;
    let mut content = Content::new();
    for (spot, offset) in SPOTS.into_iter().enumerate() {
        let bytes = reader.read(offset, BLOCK).await.map_err(|e| failed(&e))?;
        if let Some(stamp) = stamp_of(&bytes).map_err(|e| failed(&e))? {
            content.insert(spot, stamp);
        }
    }
    Ok(content)
}

/// Waits until no operation is running.
async fn quiet(service: &Service) -> Result<(), String> {
    for _ in 0..2_000 {
        let running = service.running().await.map_err(|e| e.to_string())?;
        if running.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let stuck = service.operations(None).await.map_err(|e| e.to_string())?;
    let stuck: Vec<String> = stuck
        .into_iter()
        .filter(|row| !row.record.status.ended())
        .map(|row| {
            format!(
                "{} of {}: {:?}",
                row.record.kind, row.record.subject, row.record.last_error
            )
        })
        .collect();
    Err(format!("operations never end: {stuck:?}"))
}
