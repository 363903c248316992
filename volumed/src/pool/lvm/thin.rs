//! Thin slices: chunks of one pool, captured at once, compared by the pool's metadata.

use std::ops::Range;
use std::time::{Duration, Instant};

use super::{LvmPool, NewThinPool, header_bytes};
use crate::bulk::Layout;
use crate::command::{Invocation, METADATA_TIME_LIMIT, Program};
use crate::lvm::group::{GroupError, Report};
use crate::lvm::report::Lv;
use crate::lvm::status::{Mode, PoolStatus};
use crate::lvm::tags::{Lineage, OURS};
use crate::lvm::thin_delta;
use crate::lvm::thin_pool::{Action, View};
use crate::pool::{PoolError, PoolUsage, Reading, Shed, Slice, SliceId, behind_header};

/// How long a report is good enough to see how much the group has left.
const REPORT_AGE_MAX: Duration = Duration::from_secs(15);
const DAMAGES: &str = "volumed.damages=";

impl LvmPool {
    /// Finds or makes the thin pool and gives it a device. One that cannot have any is reported, not fatal: other pools
    /// of this host work.
    pub(super) async fn open_thin_pool(
        &self,
        thin_pool: &str,
        create: Option<&NewThinPool>,
        report: &Report,
    ) -> Result<(), PoolError> {
        match (report.lv(thin_pool), create) {
            (Some(lv), _) if lv.is_thin_pool() => {}
            (Some(_), _) => {
                return Err(self.unfit(format!(
                    "{} is there and is no thin pool",
                    self.group.path(thin_pool)
                )));
            }
            (None, Some(new)) => self.create_thin_pool(thin_pool, new).await?,
            (None, None) => {
                return Err(self.unfit(format!(
                    "there is no thin pool {}; make it, or set create so that volumed does",
                    self.group.path(thin_pool)
                )));
            }
        }
        if let Err(error) = self.activate_lv(thin_pool).await {
            tracing::error!(pool = self.config.name, error = %crate::ops::chain(&error), "thin pool not activated");
            return Ok(());
        }
        // Held by a volumed that died while it compared captures: it keeps metadata from being reused.
        if self.pool_status(thin_pool).await?.snapshot_held {
            self.message(thin_pool, "release_metadata_snap").await?;
        }
        Ok(())
    }

    async fn create_thin_pool(&self, thin_pool: &str, new: &NewThinPool) -> Result<(), PoolError> {
        let (data, metadata, chunk) = (
            format!("{}b", new.data_bytes),
            format!("{}b", new.metadata_bytes),
            format!("{}b", new.chunk_bytes),
        );
        // Zeroing is on: without it a chunk would show one guest what another wrote.
        let form = [
            "--type",
            "thin-pool",
            "-L",
            &data,
            "--poolmetadatasize",
            &metadata,
            "--poolmetadataspare",
            "y",
            "--chunksize",
            &chunk,
            "--zero",
            "y",
            "--discards",
            "passdown",
            self.group.name(),
        ];
        self.lvcreate(&[OURS.to_owned()], thin_pool, &form)
            .await
            .map(drop)
    }

    pub(super) async fn pool_status(&self, thin_pool: &str) -> Result<PoolStatus, PoolError> {
        let status = self.group.pool_status(thin_pool).await;
        status.map_err(|source| self.group_error("look at", thin_pool, source))
    }

    /// Says whether a logical volume is a thin one of which the pool has not heard.
    pub(super) async fn half_made(&self, report: &Report, lv: &Lv) -> Result<bool, PoolError> {
        let Some(thin_pool) = self.thin_pool().filter(|pool| lv.pool.as_deref() == Some(*pool)) else {
            return Ok(false);
        };
        let status = self.pool_status(thin_pool).await?;
        Ok(is_half_made(&status, report, lv))
    }

    /// Makes the pool forget what it heard of a half-made volume. LVM sends two messages, the volume and then the new
    /// transaction; killed between them it sends the first again, which is refused, and everything else with it.
    pub(super) async fn make_unheard(&self, lv: &Lv) {
        let (Some(pool), Some(number)) = (&lv.pool, lv.thin_id) else {
            return;
        };
        if let Err(error) = self.message(pool, &format!("delete {number}")).await {
            tracing::debug!(lv = lv.name, error = %crate::ops::chain(&error), "pool had not heard of it at all");
        }
    }

    async fn message(&self, thin_pool: &str, message: &str) -> Result<(), PoolError> {
        let sent = self.group.pool_message(thin_pool, message).await;
        sent.map_err(|source| self.group_error("send a message to", thin_pool, source))
    }

    /// Without zeroing only encrypted slices, each under its own key, show nobody what was there before.
    pub(super) fn check_zeroing(&self, report: &Report, slice: &Slice) -> Result<(), PoolError> {
        let Some(lv) = self.thin_pool().and_then(|thin_pool| report.lv(thin_pool)) else {
            return Ok(());
        };
        if lv.zeroes || matches!(slice.layout, Layout::Luks { .. }) {
            return Ok(());
        }
        Err(self.unfit(format!(
            "thin pool {} does not zero its chunks, so it takes encrypted volumes only; lvchange --zero y changes that",
            lv.name
        )))
    }

    fn view(&self, thin_pool: &str, report: &Report, status: Option<PoolStatus>) -> View {
        View {
            status,
            chunk_bytes: report.lv(thin_pool).map_or(0, |lv| lv.chunk_bytes),
            vg_free_bytes: report.vg.free_bytes,
            extent_bytes: report.vg.extent_bytes,
            missing_pvs: report.vg.missing_pvs,
            reserve_bytes: self.config.capacity.reserve_bytes,
        }
    }

    pub(super) async fn thin_usage(&self, thin_pool: &str, report: &Report) -> Result<PoolUsage, PoolError> {
        let status = self.pool_status(thin_pool).await?;
        let chunk = report.lv(thin_pool).map_or(0, |lv| lv.chunk_bytes);
        let total = status.data_total * chunk;
        let allocated_bytes = status.data_used * chunk;
        Ok(PoolUsage {
            total_bytes: total + report.vg.free_bytes,
            free_bytes: total.saturating_sub(allocated_bytes) + report.vg.free_bytes,
            allocated_bytes,
        })
    }

    pub(super) async fn thin_reading(&self, thin_pool: &str, report: &Report) -> Reading {
        let status = self.group.pool_status(thin_pool).await.ok();
        let view = self.view(thin_pool, report, status);
        let reading = view.reading(self.watch().planner.policy());
        let fault = reading.fault.or_else(|| self.read_only_group(report));
        Reading { fault, ..reading }
    }

    pub(super) async fn copy_thin(
        &self,
        thin_pool: &str,
        source: &Slice,
        target: &Slice,
    ) -> Result<(), PoolError> {
        let name = target.id.name();
        let capture = matches!(target.id, SliceId::Capture(_));
        let mut tags = self.new_tags(target, capture);
        if let (true, SliceId::Volume(of)) = (capture, &source.id) {
            tags.of = Some(of.clone());
            let report = self.report("copy").await?;
            tags.lineage = self.lineage(thin_pool, &report);
        }
        let origin = self.group.path(&source.id.name());
        // No size: with one it would be an old copy-on-write snapshot.
        let form = ["-ky", "-s", &origin];
        self.lvcreate(&tags.render(), &name, &form).await?;
        if capture {
            return Ok(());
        }
        self.finish_copy(target, &source.layout).await
    }

    /// Returns the state of the pool's metadata; none while it is not to be believed.
    fn lineage(&self, thin_pool: &str, report: &Report) -> Option<Lineage> {
        if self.watch().damaged {
            return None;
        }
        let pool = report.lv(thin_pool)?;
        let part = format!("{thin_pool}_tmeta");
        let metadata = report.lvs.iter().find(|lv| lv.hidden && lv.name == part)?;
        // The device's name may change, the extent does not.
        let place = metadata
            .place
            .rsplit(':')
            .next()
            .filter(|place| !place.is_empty())?;
        // The end moves when the metadata grows.
        let first = place.split('-').next()?;
        Some(Lineage {
            pool: pool.uuid.clone(),
            place: first.to_owned(),
            damages: damages(pool),
            transaction_id: pool.transaction_id?,
        })
    }

    pub(super) async fn thin_changes(
        &self,
        thin_pool: &str,
        base: &Slice,
        slice: &Slice,
    ) -> Result<Option<Vec<Range<u64>>>, PoolError> {
        let report = self.report("compare").await?;
        let Some((base_lv, base_tags)) = self.find(&report, &base.id)? else {
            return Ok(None);
        };
        let (lv, tags) = self.finished(&report, &slice.id)?;
        let (Some(older), Some(newer), Some(now)) =
            (base_tags.lineage, tags.lineage, self.lineage(thin_pool, &report))
        else {
            return Ok(None);
        };
        let believed = base_tags.complete
            && base_tags.of == tags.of
            && base_tags.header_bytes == tags.header_bytes
            && older.leads_to(&newer)
            && newer.leads_to(&now);
        let (Some(left), Some(right), true) = (base_lv.thin_id, lv.thin_id, believed) else {
            return Ok(None);
        };
        let _only = self.metadata.lock().await;
        let status = self.pool_status(thin_pool).await?;
        if status.needs_check || status.mode != Mode::ReadWrite {
            return Ok(None);
        }
        if status.snapshot_held {
            self.message(thin_pool, "release_metadata_snap").await?;
        }
        self.message(thin_pool, "reserve_metadata_snap").await?;
        let compared = self.compare(thin_pool, left, right).await;
        self.message(thin_pool, "release_metadata_snap").await?;
        let printed = compared.map_err(|source| self.group_error("compare", &slice.id.name(), source))?;
        let delta = match thin_delta::parse(&printed, left, right) {
            Ok(delta) => delta,
            Err(error) => {
                tracing::warn!(error = %error, "thin_delta not understood; all is read");
                return Ok(None);
            }
        };
        let chunk = report.lv(thin_pool).map(|lv| lv.chunk_bytes);
        if chunk != Some(delta.chunk_bytes) {
            return Ok(None);
        }
        let header = header_bytes(&slice.layout);
        Ok(Some(behind_header(&delta.changed, header, slice.size_bytes)))
    }

    async fn compare(&self, thin_pool: &str, left: u64, right: u64) -> Result<String, GroupError> {
        let metadata = self
            .group
            .device(&format!("{thin_pool}_tmeta"))
            .display()
            .to_string();
        let (left, right) = (left.to_string(), right.to_string());
        let args = ["-m", "--snap1", &left, "--snap2", &right, &metadata];
        let mut call = Invocation::new(Program::ThinDelta, args);
        call.time_limit = METADATA_TIME_LIMIT;
        Ok(self.group.commands().succeed(&call).await?)
    }

    /// Looks at the thin pool, and lets it grow when it is time.
    pub(super) async fn tend_thin(&self, thin_pool: &str, now: Instant) -> Vec<Shed> {
        match self.look(thin_pool, now).await {
            Ok(actions) => {
                self.watch().unseen = false;
                self.perform(thin_pool, now, actions).await
            }
            Err(error) => {
                if !std::mem::replace(&mut self.watch().unseen, true) {
                    let error = crate::ops::chain(&error);
                    tracing::error!(pool = self.config.name, error, "thin pool cannot be looked at");
                }
                Vec::new()
            }
        }
    }

    async fn look(&self, thin_pool: &str, now: Instant) -> Result<Vec<Action>, PoolError> {
        let status = self.pool_status(thin_pool).await?;
        let seen = self.watch().seen.clone();
        let fresh = seen.filter(|(at, _)| now.saturating_duration_since(*at) < REPORT_AGE_MAX);
        let report = match fresh {
            Some((_, report)) => report,
            None => {
                let report = self.report("look at").await?;
                self.watch().seen = Some((now, report.clone()));
                report
            }
        };
        if status.needs_check || matches!(status.mode, Mode::ReadOnly | Mode::Failed) {
            self.note_damage(thin_pool, &report).await;
        }
        let view = self.view(thin_pool, &report, Some(status));
        let mut actions = Vec::new();
        self.watch().planner.handle(now, &view, &mut actions);
        Ok(actions)
    }

    async fn perform(&self, thin_pool: &str, now: Instant, actions: Vec<Action>) -> Vec<Shed> {
        let (path, mut shed) = (self.group.path(thin_pool), Vec::new());
        for action in actions {
            let (size, what) = match action {
                Action::ShedBases => {
                    shed.push(Shed::Bases);
                    continue;
                }
                Action::ShedCaptures => {
                    shed.push(Shed::Captures);
                    continue;
                }
                Action::ExtendData { to_bytes } => (vec!["-L".to_owned(), format!("{to_bytes}b")], "data"),
                Action::ExtendMetadata { by_bytes } => (
                    vec!["--poolmetadatasize".to_owned(), format!("+{by_bytes}b")],
                    "metadata",
                ),
            };
            let before = self.watch().seen.as_ref().map(|(_, report)| report.vg.seqno);
            let grown = |report: &Report| match before {
                Some(seqno) if report.vg.seqno <= seqno => Err(format!("{thin_pool} is as it was")),
                Some(_) | None => Ok(()),
            };
            let mut args = vec!["-y"];
            args.extend(size.iter().map(String::as_str));
            args.push(&path);
            match self.group.change("lvextend", &args, grown).await {
                Ok(report) => {
                    tracing::info!(pool = self.config.name, what, to = size[1], "thin pool extended");
                    self.watch().seen = Some((now, report));
                }
                Err(error) => {
                    tracing::error!(pool = self.config.name, what, error = %crate::ops::chain(&error), "thin pool not extended");
                    // What was known of the group is not so: it is read anew before the next try.
                    self.watch().seen = None;
                }
            }
        }
        shed
    }

    /// Breaks the lineage of every capture: after a repair the metadata may be another.
    async fn note_damage(&self, thin_pool: &str, report: &Report) {
        let first = !std::mem::replace(&mut self.watch().damaged, true);
        let Some(pool) = report.lv(thin_pool).filter(|_| first) else {
            return;
        };
        let (old, new) = (
            format!("{DAMAGES}{}", damages(pool)),
            format!("{DAMAGES}{}", damages(pool) + 1),
        );
        let path = self.group.path(thin_pool);
        let tagged = |report: &Report| match report.lv(thin_pool) {
            Some(lv) if lv.has_tag(&new) => Ok(()),
            Some(_) | None => Err(format!("{thin_pool} lacks the tag {new}")),
        };
        let args = ["-y", "--deltag", &old, "--addtag", &new, &path];
        if let Err(error) = self.group.change("lvchange", &args, tagged).await {
            tracing::error!(pool = self.config.name, error = %crate::ops::chain(&error), "damage not noted on the pool");
        }
    }
}

/// Says whether a thin volume is one of which its pool, having this status after the report, has not heard.
pub(super) fn is_half_made(status: &PoolStatus, report: &Report, lv: &Lv) -> bool {
    let pool = lv.pool.as_deref().and_then(|pool| report.lv(pool));
    match (pool.and_then(|pool| pool.transaction_id), lv.transaction_id) {
        (Some(pool), Some(made)) => status.has_not_heard_of(pool, made),
        (None, _) | (_, None) => false,
    }
}

/// Returns how often the pool was found damaged.
fn damages(pool: &Lv) -> u64 {
    let tagged = pool.tags.iter().find_map(|tag| tag.strip_prefix(DAMAGES));
    tagged.and_then(|count| count.parse().ok()).unwrap_or_default()
}
