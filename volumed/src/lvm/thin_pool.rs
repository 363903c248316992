//! PURE
//! When a thin pool grows, what it lets go of, and what is wrong with it.
//!
//! A full pool makes guests hang and full metadata makes the pool read-only until somebody repairs it, so both grow
//! early. What a pool could grow to counts as its room: new work is refused by that, long before anything stops.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::status::{METADATA_BLOCK_BYTES, Mode, PoolStatus};
use crate::pool::{Fault, Gauge, Reading};

#[cfg(test)]
mod tests;

/// Largest metadata that a thin pool can address, rounded down.
pub const METADATA_BYTES_MAX: u64 = 15 << 30;
/// Over how long growth is measured.
const WINDOW: Duration = Duration::from_secs(600);
/// Growth over less than this says nothing of the hours to come: a file system that is made, a restore that begins.
const WINDOW_MIN: Duration = Duration::from_secs(60);
/// Samples closer together than this replace each other.
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// Data grows by at least this share of what it has.
const STEP_DIVISOR: u64 = 4;

/// The operator's thresholds. Percentages of data and metadata are of the pool as it is now; the rest are of all that it
/// could grow to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Data grows when this much of it is used.
    pub data_percent: u64,
    /// Data grows when it would be full in less than this.
    pub full_in: Duration,
    /// Data grows when less than this is free in it: more than guests can write between two looks.
    pub headroom_bytes: u64,
    /// Metadata grows when this much of it is used.
    pub metadata_percent: u64,
    /// From here on the pool takes no new work for want of metadata.
    pub metadata_refuse_percent: u64,
    /// From here on captures kept only to speed up backups are let go.
    pub shed_bases_percent: u64,
    /// From here on captures that are being uploaded are given up, so that volumes keep what was promised to them.
    pub shed_captures_percent: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            data_percent: 70,
            full_in: Duration::from_secs(2 * 3600),
            headroom_bytes: 4 << 30,
            metadata_percent: 60,
            metadata_refuse_percent: 80,
            shed_bases_percent: 80,
            shed_captures_percent: 95,
        }
    }
}

/// What is known of a pool at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Its status; none when it has no device.
    pub status: Option<PoolStatus>,
    /// Bytes of a chunk.
    pub chunk_bytes: u64,
    /// Bytes in free extents of its group.
    pub vg_free_bytes: u64,
    /// Bytes of an extent.
    pub extent_bytes: u64,
    /// Disks of its group that are not there.
    pub missing_pvs: u64,
    /// Bytes of the group that are never taken.
    pub reserve_bytes: u64,
}

impl View {
    fn data_used(&self, status: &PoolStatus) -> u64 {
        status.data_used.saturating_mul(self.chunk_bytes)
    }

    fn data_total(&self, status: &PoolStatus) -> u64 {
        status.data_total.saturating_mul(self.chunk_bytes)
    }

    /// Returns the bytes of the group that data may take: room for the metadata, and for its spare, to double stays.
    fn spare_bytes(&self, status: &PoolStatus) -> u64 {
        let metadata = status.metadata_total * METADATA_BLOCK_BYTES;
        let spare = self
            .vg_free_bytes
            .saturating_sub(self.reserve_bytes)
            .saturating_sub(2 * metadata);
        spare / self.extent_bytes.max(1) * self.extent_bytes
    }

    /// Returns what the metadata could grow to.
    fn metadata_room(&self, status: &PoolStatus) -> u64 {
        let has = status.metadata_total * METADATA_BLOCK_BYTES;
        let extent = self.extent_bytes.max(1);
        // Its spare grows with it, so each byte counts twice.
        let room = self.vg_free_bytes / 2 / extent * extent;
        has + room.min(METADATA_BYTES_MAX.saturating_sub(has) / extent * extent)
    }

    /// Returns the gauges of data and metadata.
    fn gauges(&self, status: &PoolStatus) -> [Gauge; 2] {
        [
            Gauge {
                what: "data",
                used_bytes: self.data_used(status),
                room_bytes: self.data_total(status).saturating_add(self.spare_bytes(status)),
            },
            Gauge {
                what: "metadata",
                used_bytes: status.metadata_used * METADATA_BLOCK_BYTES,
                room_bytes: self.metadata_room(status),
            },
        ]
    }

    /// Returns how full the pool is, and what is wrong with it.
    pub fn reading(&self, policy: &Policy) -> Reading {
        let Some(status) = &self.status else {
            let fault = match self.missing_pvs {
                0 => fault(
                    "inactive",
                    "the pool is not active: look at volumed's log and at lvs -a",
                ),
                _ => missing_pv(),
            };
            return Reading {
                gauges: Vec::new(),
                fault: Some(fault),
            };
        };
        let gauges = self.gauges(status);
        let metadata = percent(gauges[1].used_bytes, gauges[1].room_bytes);
        let fault = if self.missing_pvs > 0 {
            Some(missing_pv())
        } else if status.needs_check || status.mode == Mode::Failed {
            let sentence = "the pool's metadata is damaged and must be repaired off-line: see docs/operating/lvm-pools.md";
            Some(fault("needs_check", sentence))
        } else if status.mode == Mode::ReadOnly {
            let sentence = "the pool takes no new data: see docs/operating/lvm-pools.md";
            Some(fault("read_only", sentence))
        } else if status.mode == Mode::OutOfData {
            let sentence =
                "every chunk of the pool is taken and writes wait: add a disk to its volume group at once";
            Some(fault("out_of_data", sentence))
        } else if metadata >= policy.metadata_refuse_percent {
            let sentence = "the pool's metadata is almost full and cannot grow: free extents in its volume group, or \
                            delete snapshots and volumes";
            Some(fault("metadata_low", sentence))
        } else {
            None
        };
        Reading {
            gauges: gauges.to_vec(),
            fault,
        }
    }
}

fn fault(state: &'static str, sentence: &str) -> Fault {
    Fault {
        state,
        sentence: sentence.to_owned(),
    }
}

/// The fault of a group that lacks a disk.
pub fn missing_pv() -> Fault {
    fault(
        "missing_pv",
        "a disk of the volume group is missing: bring it back, see docs/operating/lvm-pools.md",
    )
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Data grows to this size.
    ExtendData {
        /// A multiple of the extent.
        to_bytes: u64,
    },
    /// Metadata grows by this much.
    ExtendMetadata {
        /// A multiple of the extent.
        by_bytes: u64,
    },
    /// Captures that only speed up the next backup go.
    ShedBases,
    /// Captures that are being uploaded go too.
    ShedCaptures,
}

/// Decides for one pool.
#[derive(Debug)]
pub struct Planner {
    policy: Policy,
    /// Bytes used at moments of the past, oldest first.
    samples: VecDeque<(Instant, u64)>,
}

impl Planner {
    /// Starts with a pool of which nothing is known.
    pub fn new(policy: Policy) -> Self {
        Self {
            policy,
            samples: VecDeque::new(),
        }
    }

    /// Returns the thresholds.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Looks at the pool and says what is to be done now.
    pub fn handle(&mut self, now: Instant, view: &View, out: &mut Vec<Action>) {
        let Some(status) = &view.status else { return };
        if view.missing_pvs > 0 || status.needs_check || !grows(status.mode) {
            // The kernel resizes no damaged pool, and LVM changes no group that lacks a disk.
            return;
        }
        self.sample(now, view.data_used(status));
        // Metadata first: without it no data can be written either, and it needs little.
        self.plan_metadata(view, status, out);
        self.plan_data(view, status, out);
        let [data, _] = view.gauges(status);
        let used = percent(data.used_bytes, data.room_bytes);
        if used >= self.policy.shed_bases_percent {
            out.push(Action::ShedBases);
        }
        if used >= self.policy.shed_captures_percent {
            out.push(Action::ShedCaptures);
        }
    }

    fn sample(&mut self, now: Instant, used: u64) {
        let fresh = self
            .samples
            .back()
            .is_none_or(|(at, _)| now.saturating_duration_since(*at) >= SAMPLE_EVERY);
        if fresh {
            self.samples.push_back((now, used));
        }
        while self
            .samples
            .front()
            .is_some_and(|(at, _)| now.saturating_duration_since(*at) > WINDOW)
        {
            self.samples.pop_front();
        }
    }

    /// Returns in how many seconds `free_bytes` will be written, if growth goes on as it was.
    fn full_in_s(&self, free_bytes: u64) -> Option<u64> {
        let ((first_at, first), (last_at, last)) = (self.samples.front()?, self.samples.back()?);
        let seconds = last_at.saturating_duration_since(*first_at).as_secs();
        let grown = last.saturating_sub(*first);
        if seconds < WINDOW_MIN.as_secs() || grown == 0 {
            return None;
        }
        u64::try_from(u128::from(free_bytes) * u128::from(seconds) / u128::from(grown)).ok()
    }

    fn plan_metadata(&self, view: &View, status: &PoolStatus, out: &mut Vec<Action>) {
        if percent(status.metadata_used, status.metadata_total) < self.policy.metadata_percent {
            return;
        }
        let has = status.metadata_total * METADATA_BLOCK_BYTES;
        let extent = view.extent_bytes.max(1);
        let doubled = has.max(extent).div_ceil(extent) * extent;
        let by_bytes = doubled.min(view.metadata_room(status) - has);
        if by_bytes > 0 {
            out.push(Action::ExtendMetadata { by_bytes });
        }
    }

    fn plan_data(&self, view: &View, status: &PoolStatus, out: &mut Vec<Action>) {
        let (used, total) = (view.data_used(status), view.data_total(status));
        let free = total.saturating_sub(used);
        let soon = self
            .full_in_s(free)
            .is_some_and(|s| s < self.policy.full_in.as_secs());
        let due =
            percent(used, total) >= self.policy.data_percent || free < self.policy.headroom_bytes || soon;
        let extent = view.extent_bytes.max(1);
        let spare = view.spare_bytes(status);
        if !due || spare == 0 {
            return;
        }
        let below_threshold = used.saturating_mul(100) / self.policy.data_percent.max(1);
        let step = (total / STEP_DIVISOR).max(self.policy.headroom_bytes).max(extent);
        let wanted = below_threshold.max(total.saturating_add(step));
        let by = (wanted - total)
            .div_ceil(extent)
            .saturating_mul(extent)
            .min(spare);
        out.push(Action::ExtendData { to_bytes: total + by });
    }
}

fn grows(mode: Mode) -> bool {
    // A pool out of data goes on by itself when it is extended.
    matches!(mode, Mode::ReadWrite | Mode::OutOfData)
}

fn percent(part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return 0;
    }
    u64::try_from(u128::from(part) * 100 / u128::from(whole)).unwrap_or(u64::MAX)
}
