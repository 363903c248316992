use std::time::Duration;

use operation::Handle;
use serde::{Deserialize, Serialize};
use serde_json::{Number, json};

use super::commands::unfinished;
use super::fields::{NAME_RULE, check_app, check_counts, check_name, check_retention, check_size};
use super::kinds::{Begins, check_bottomless};
use super::placement::{self, Wish};
use super::room::Room;
use super::{Service, refusal};
use crate::catalog::{Change, Tx, TxError};
use crate::error::Refusal;
use crate::keys::DataKey;
use crate::lifecycle::{self, Command};
use crate::ops::{CREATE, FORK, RESTORE};
use crate::retention::Counts;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{FsType, GIB, Origin, SizeGb, SnapshotId, Volume, VolumeId, VolumeState};

/// Size when the request names none, as the Machines API has it.
const SIZE_GB_DEFAULT: u32 = 3;
const RETENTION_DAYS_DEFAULT: u32 = 5;
const KEY_LEN_MAX: usize = 200;
/// How long a create request waits for a volume that takes no copying.
const CREATE_WAIT: Duration = Duration::from_secs(5);

/// A request for a new volume. Every field may be absent or null; fields not listed are placement hints and ignored.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
#[allow(missing_docs)] // the fields are the API's, described in the Machines API reference
pub struct CreateRequest {
    pub app: Option<String>,
    pub name: Option<String>,
    pub region: Option<String>,
    pub zone: Option<String>,
    pub size_gb: Option<Number>,
    pub encrypted: Option<bool>,
    pub fstype: Option<String>,
    pub snapshot_retention: Option<Number>,
    pub snapshot_retention_hourly: Option<Number>,
    pub snapshot_retention_daily: Option<Number>,
    pub snapshot_retention_weekly: Option<Number>,
    pub auto_backup_enabled: Option<bool>,
    pub snapshot_id: Option<String>,
    pub source_volume_id: Option<String>,
    pub require_unique_zone: Option<bool>,
    pub unique_zone_app_wide: Option<bool>,
    pub r#type: Option<String>,
    pub pool: Option<String>,
    pub idempotency_key: Option<String>,
}

/// What the request comes to after validation.
#[derive(Clone, Debug)]
struct Spec {
    app: String,
    name: Option<String>,
    size: Option<SizeGb>,
    encrypted: Option<bool>,
    fstype: Option<FsType>,
    snapshot_retention: u32,
    snapshot_counts: Counts,
    auto_backup_enabled: bool,
    pool: String,
    zone: Option<String>,
    unique_zone: bool,
    unique_zone_app_wide: bool,
}

/// Where the first content comes from.
#[derive(Clone, Debug)]
enum Source {
    Nothing,
    Snapshot(Box<Snapshot>),
    Volume(Box<Volume>),
}

impl Service {
    /// Creates a volume: empty, from a snapshot, or as a fork.
    ///
    /// Answers when an empty volume is ready; a restore or a fork is only begun.
    ///
    /// # Errors
    /// 400 and 422 for fields, 404 for a source that is not there, 422 for capacity and placement. Nothing is then made.
    pub async fn create(&self, request: CreateRequest) -> Result<Volume, Refusal> {
        let spec = self.validate(&request)?;
        let key = request.idempotency_key.clone().filter(|key| !key.is_empty());
        let fingerprint = fingerprint(&request);
        if let Some(earlier) = self.earlier(&spec.app, key.as_deref(), &fingerprint).await? {
            return Ok(earlier);
        }
        let source = self.source(&request, &spec).await?;
        let volume = self.draft(&request, &spec, &source).await?;
        self.check_size_in_pool(&volume)?;
        let remember = key.map(|key| (key, fingerprint));
        let id = volume.id.clone();
        let mut handle = self.begin_create(volume, spec, source, remember).await?;
        if handle.record().kind != RESTORE {
            // Long copies go on after the answer.
            let ended = tokio::time::timeout(CREATE_WAIT.min(self.ctx.settings.answer_within), handle.end());
            if ended.await.is_ok() {
                self.settle(&mut handle).await?;
            }
        }
        self.volume(&id).await
    }

    fn validate(&self, request: &CreateRequest) -> Result<Spec, Refusal> {
        let settings = &self.ctx.settings;
        let app = request.app.clone().unwrap_or_default();
        check_app(&app)?;
        let forks = request.source_volume_id.is_some();
        let name = request.name.clone().filter(|name| !name.is_empty());
        match &name {
            Some(name) => check_name(name)?,
            None if forks => {}
            None => return Err(Refusal::invalid(format!("name is required: {NAME_RULE}"))),
        }
        if let Some(region) = request.region.as_deref().filter(|r| !r.is_empty())
            && region != settings.region
        {
            return Err(Refusal::invalid(format!(
                "region {region:?} is unknown; this node is in region {}",
                settings.region
            )));
        }
        let found = self.wanted_pool(request)?;
        let pool = found.name();
        if found.is_bottomless() {
            check_bottomless(request)?;
        }
        if request.encrypted.unwrap_or(true) && !found.capabilities().encryption {
            return Err(Refusal::invalid(format!(
                "pool {pool} cannot encrypt; pass encrypted: false or use another"
            )));
        }
        let fstype = request.fstype.as_deref().filter(|f| !f.is_empty()).map(|text| {
            let parsed = FsType::parse(text);
            parsed
                .ok_or_else(|| Refusal::invalid(format!("fstype {text:?} is unknown; use ext4, xfs or raw")))
        });
        let key = request.idempotency_key.as_deref().unwrap_or_default();
        if key.len() > KEY_LEN_MAX {
            return Err(Refusal::invalid(format!(
                "idempotency_key must have at most {KEY_LEN_MAX} bytes"
            )));
        }
        Ok(Spec {
            app,
            name,
            size: request
                .size_gb
                .as_ref()
                // A fork of a bottomless volume is bottomless without saying so: its size is checked when that is known.
                .map(|n| check_size(n, self.size_max_of_all()))
                .transpose()?,
            encrypted: request.encrypted,
            fstype: fstype.transpose()?,
            snapshot_retention: check_retention(request.snapshot_retention.as_ref())?
                .unwrap_or(RETENTION_DAYS_DEFAULT),
            snapshot_counts: check_counts(
                Counts::default(),
                [
                    request.snapshot_retention_hourly.as_ref(),
                    request.snapshot_retention_daily.as_ref(),
                    request.snapshot_retention_weekly.as_ref(),
                ],
            )?,
            auto_backup_enabled: request.auto_backup_enabled.unwrap_or(true),
            pool: pool.to_owned(),
            zone: request.zone.clone().filter(|z| !z.is_empty()),
            unique_zone: request.require_unique_zone.unwrap_or(true),
            unique_zone_app_wide: request.unique_zone_app_wide.unwrap_or(false),
        })
    }

    async fn earlier(&self, app: &str, key: Option<&str>, print: &str) -> Result<Option<Volume>, Refusal> {
        let Some(key) = key.map(str::to_owned) else {
            return Ok(None);
        };
        let (app, print) = (app.to_owned(), print.to_owned());
        let found = self
            .ctx
            .catalog
            .transact(move |tx| earlier_volume(tx, &app, &key, &print));
        found.await.map_err(refusal)
    }

    async fn source(&self, request: &CreateRequest, spec: &Spec) -> Result<Source, Refusal> {
        let snapshot_id = request.snapshot_id.as_deref().filter(|s| !s.is_empty());
        let source_id = request.source_volume_id.as_deref().filter(|s| !s.is_empty());
        match (snapshot_id, source_id) {
            (None, None) => Ok(Source::Nothing),
            (Some("last"), _) => {
                let name = spec.name.clone();
                let newest = self.newest_snapshot(&spec.app, name, source_id).await?;
                whole(newest)
            }
            (Some(_), Some(_)) => Err(Refusal::invalid(
                "snapshot_id and source_volume_id exclude each other; pass only one of them",
            )),
            (Some(id), None) => {
                let missing = || {
                    Refusal::missing(format!(
                        "snapshot {id} not found; list the snapshots to see which there are"
                    ))
                };
                let id = SnapshotId::parse(id).map_err(|_| missing())?;
                whole(self.snapshot(&id).await?)
            }
            (None, Some(id)) => {
                let missing = || Refusal::missing(format!("source volume {id} not found"));
                let id = VolumeId::parse(id).map_err(|_| missing())?;
                Ok(Source::Volume(Box::new(
                    self.volume(&id).await.map_err(|_| missing())?,
                )))
            }
        }
    }

    async fn newest_snapshot(
        &self,
        app: &str,
        name: Option<String>,
        of: Option<&str>,
    ) -> Result<Snapshot, Refusal> {
        let (app, of) = (app.to_owned(), of.map(str::to_owned));
        let shown = name.clone().unwrap_or_default();
        let all = self
            .ctx
            .catalog
            .transact(|tx| Ok(tx.snapshots()?))
            .await
            .map_err(refusal)?;
        let fits = |s: &Snapshot| match &of {
            Some(volume) => s.volume_id.as_str() == volume,
            None => name.as_ref().is_none_or(|name| &s.volume_name == name),
        };
        let newest = all
            .into_iter()
            .rev()
            .find(|s| s.app == app && s.state == SnapshotState::Created && fits(s));
        newest.ok_or_else(|| {
            Refusal::missing(format!(
                "volumes named {shown} of app {app} have no finished snapshot"
            ))
        })
    }

    /// Fills in what the source decides.
    async fn draft(&self, request: &CreateRequest, spec: &Spec, source: &Source) -> Result<Volume, Refusal> {
        let (ctx, now) = (&self.ctx, self.ctx.clock.now());
        let id = VolumeId::generate(&*ctx.random);
        let key = DataKey::generate(&*ctx.random);
        let mut volume = Volume {
            wrapped_key: ctx.keys.get().wrap(id.as_str(), &key, &*ctx.random),
            id,
            app: spec.app.clone(),
            name: spec.name.clone().unwrap_or_default(),
            region: ctx.settings.region.clone(),
            zone: String::new(),
            size: spec
                .size
                .or(SizeGb::new(SIZE_GB_DEFAULT))
                .unwrap_or(ctx.settings.size_max),
            extending_to: None,
            state: VolumeState::Creating,
            pool: spec.pool.clone(),
            encrypted: spec.encrypted.unwrap_or(true),
            fstype: spec.fstype.unwrap_or(FsType::Ext4),
            formatted: false,
            ever_attached: false,
            snapshot_retention: spec.snapshot_retention,
            snapshot_counts: spec.snapshot_counts,
            auto_backup_enabled: spec.auto_backup_enabled,
            attached_machine_id: None,
            host_path: None,
            generation: 0,
            usage: None,
            needs_restart: false,
            origin: Origin::Empty,
            created_at: now,
            updated_at: now,
            deleted_at: None,
            purge_after: None,
            last_verified_restore: None,
            scheduled_slot: None,
            auto_extended_from_bytes: None,
            auto_extend_blocked: None,
            snapshot_blocked: None,
            left_at: None,
            failure: None,
        };
        match source {
            Source::Nothing => {}
            Source::Snapshot(snapshot) => {
                self.draft_restore(&mut volume, spec, snapshot)?;
                let disk_of = match snapshot.in_disk {
                    true => Some(self.volume(&snapshot.volume_id).await?.pool),
                    false => None,
                };
                let name = format!("snapshot {}", snapshot.id);
                let disk_of = disk_of.as_deref();
                volume.pool = self.pool_for(&spec.pool, request, &Begins { name, disk_of })?;
            }
            Source::Volume(source) => {
                let name = format!("volume {}", source.id);
                let disk_of = Some(source.pool.as_str());
                self.pool_for(&spec.pool, request, &Begins { name, disk_of })?;
                draft_fork(&mut volume, spec, source)?;
            }
        }
        Ok(volume)
    }

    fn draft_restore(&self, volume: &mut Volume, spec: &Spec, snapshot: &Snapshot) -> Result<(), Refusal> {
        unfinished(snapshot, "restore")?;
        if let Err(error) = self
            .ctx
            .keys
            .get()
            .unwrap(snapshot.volume_id.as_str(), &snapshot.wrapped_key)
        {
            return Err(Refusal::invalid(format!(
                "snapshot {} cannot be opened with this node's cluster key: {error}; import the key that sealed it",
                snapshot.id
            )));
        }
        let least = SizeGb::holding(snapshot.volume_bytes);
        volume.size = spec.size.unwrap_or(least);
        if volume.size.bytes() < snapshot.volume_bytes {
            return Err(Refusal::invalid(format!(
                "size_gb must be at least {}, the size of snapshot {}'s volume; got {}",
                snapshot.volume_bytes.div_ceil(GIB),
                snapshot.id,
                volume.size.get()
            )));
        }
        fs_must_match(spec.fstype, &snapshot.fstype)?;
        volume.fstype = FsType::parse(&snapshot.fstype).unwrap_or(volume.fstype);
        volume.encrypted = spec.encrypted.unwrap_or(snapshot.encrypted);
        volume.generation = snapshot.generation + 1;
        volume.origin = Origin::Snapshot {
            snapshot_id: snapshot.id.clone(),
        };
        Ok(())
    }

    async fn begin_create(
        &self,
        volume: Volume,
        spec: Spec,
        source: Source,
        remember: Option<(String, String)>,
    ) -> Result<Handle, Refusal> {
        let pool = self.ctx.pools.get(&volume.pool).ok_or_else(|| {
            Refusal::invalid(format!(
                "pool {} of the source is not configured on this node",
                volume.pool
            ))
        })?;
        let room = self.room(&**pool, volume.size.bytes()).await?;
        let (kind, subject) = (kind(&source), volume.id.to_string());
        let zones = self.ctx.settings.zones.clone();
        let change = Change::new(move |tx| insert(tx, volume, &spec, &source, &zones, &room, remember));
        self.submit(&subject, kind, json!({}), change).await
    }
}

fn kind(source: &Source) -> &'static str {
    match source {
        Source::Nothing => CREATE,
        Source::Snapshot(_) => RESTORE,
        Source::Volume(_) => FORK,
    }
}

fn insert(
    tx: &Tx<'_>,
    mut volume: Volume,
    spec: &Spec,
    source: &Source,
    zones: &[String],
    room: &Room,
    remember: Option<(String, String)>,
) -> Result<(), TxError> {
    if let Some((key, print)) = &remember
        && let Some(earlier) = earlier_volume(tx, &volume.app, key, print)?
    {
        // Two requests with one key came at once; this one lost.
        return Err(Refusal::conflict(format!(
            "this request is being carried out already, as volume {}",
            earlier.id
        ))
        .into());
    }
    let mut not_zone = None;
    match source {
        Source::Nothing => {}
        Source::Snapshot(snapshot) => {
            let now = tx.snapshot(&snapshot.id)?.map(|s| s.state);
            if now != Some(SnapshotState::Created) {
                return Err(
                    Refusal::conflict(format!("snapshot {} was deleted meanwhile", snapshot.id)).into(),
                );
            }
        }
        Source::Volume(source) => {
            let now = tx
                .volume(&source.id)?
                .ok_or_else(|| Refusal::missing("volume not found"))?;
            lifecycle::plan(&now, &Command::Fork)?;
            not_zone = Some(now.zone);
        }
    }
    let wish = Wish {
        app: volume.app.clone(),
        name: volume.name.clone(),
        zone: spec.zone.clone(),
        not_zone,
        unique_zone: spec.unique_zone,
        unique_zone_app_wide: spec.unique_zone_app_wide,
    };
    volume.zone = placement::choose(zones, &tx.existing_volumes()?, &wish)?;
    room.check(tx, &volume.pool, volume.size.bytes())?;
    tx.put_volume(&volume)?;
    if let Some((key, print)) = &remember {
        tx.remember_request(&volume.app, key, &volume.id, print)?;
    }
    Ok(())
}

fn earlier_volume(tx: &Tx<'_>, app: &str, key: &str, print: &str) -> Result<Option<Volume>, TxError> {
    let Some((id, earlier_print)) = tx.earlier_request(app, key)? else {
        return Ok(None);
    };
    // A volume that did not come to be, or is gone, does not answer for a new request.
    let Some(volume) = tx.volume(&id)?.filter(Volume::exists) else {
        return Ok(None);
    };
    if earlier_print != print {
        let sentence =
            format!("idempotency_key was used for another request, which made volume {id}; use a new key");
        return Err(Refusal::invalid(sentence).into());
    }
    Ok(Some(volume))
}

fn draft_fork(volume: &mut Volume, spec: &Spec, source: &Volume) -> Result<(), Refusal> {
    lifecycle::plan(source, &Command::Fork)?;
    if source.app != spec.app {
        return Err(Refusal::missing(format!(
            "source volume {} not found in app {}",
            source.id, spec.app
        )));
    }
    volume.size = spec.size.unwrap_or(source.size);
    if volume.size < source.size {
        return Err(Refusal::invalid(format!(
            "size_gb must be at least {}, the size of source volume {}; got {}",
            source.size.get(),
            source.id,
            volume.size.get()
        )));
    }
    if spec.encrypted.is_some_and(|wanted| wanted != source.encrypted) {
        return Err(Refusal::invalid(
            "a fork keeps its source's encryption; leave encrypted out, or restore a snapshot instead",
        ));
    }
    fs_must_match(spec.fstype, source.fstype.name())?;
    volume.pool.clone_from(&source.pool);
    volume.fstype = source.fstype;
    volume.encrypted = source.encrypted;
    volume.generation = source.generation + 1;
    if volume.name.is_empty() {
        volume.name.clone_from(&source.name);
    }
    volume.origin = Origin::Fork {
        volume_id: source.id.clone(),
    };
    Ok(())
}

fn fs_must_match(wanted: Option<FsType>, found: &str) -> Result<(), Refusal> {
    match wanted {
        Some(wanted) if wanted.name() != found => Err(Refusal::invalid(format!(
            "the source has fstype {found}, which a copy keeps; leave fstype out (got {})",
            wanted.name()
        ))),
        Some(_) | None => Ok(()),
    }
}

fn fingerprint(request: &CreateRequest) -> String {
    let mut request = request.clone();
    request.idempotency_key = None;
    let text = serde_json::to_string(&request).unwrap_or_default();
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// Takes a snapshot as a source, unless it is known that no restore of it ends.
fn whole(snapshot: Snapshot) -> Result<Source, Refusal> {
    match &snapshot.damage {
        Some(damage) => Err(Refusal::invalid(format!(
            "snapshot {} cannot be restored, it is damaged: {damage}; restore another one, or verify it again if that was \
             mended",
            snapshot.id
        ))),
        None => Ok(Source::Snapshot(Box::new(snapshot))),
    }
}
