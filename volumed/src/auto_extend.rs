//! PURE. Decides whether a volume grows by itself, from what its guest says about its file system.
//!
//! One step at a time: after an extend nothing is decided until the guest's file system shows it, however full it says
//! to be, so that a guest that cannot grow is not given the whole pool.

use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::volume::{FsUsage, SizeGb, Volume, VolumeState};

#[cfg(test)]
mod tests;

/// The three settings of a mount, as its machine has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct AutoExtend {
    /// How full, 1 to 99 per cent, the file system is when the volume grows.
    pub threshold_percent: u32,
    /// By how much it grows, in GB, 1 and up.
    pub add_size_gb: u32,
    /// The size that it does not pass; the node's limit when absent.
    #[serde(default)]
    pub size_gb_limit: Option<u32>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: there is room, or the last extend has not arrived.
    Rest,
    /// Grow.
    Extend {
        /// To this size.
        to: SizeGb,
        /// How full it is.
        percent: u32,
    },
    /// It should grow and may not.
    Blocked {
        /// A sentence for its owner.
        why: String,
    },
}

impl AutoExtend {
    /// Checks the settings.
    ///
    /// # Errors
    /// 422 names the one that cannot be.
    pub fn check(&self) -> Result<(), Refusal> {
        if !(1..=99).contains(&self.threshold_percent) {
            return Err(Refusal::invalid(format!(
                "threshold_percent must be from 1 to 99; got {}",
                self.threshold_percent
            )));
        }
        if self.add_size_gb == 0 || self.size_gb_limit == Some(0) {
            return Err(Refusal::invalid(
                "add_size_gb and size_gb_limit must be at least 1",
            ));
        }
        Ok(())
    }

    /// Decides.
    ///
    /// * `max`: the largest volume that the operator allows.
    pub fn decide(&self, volume: &Volume, max: SizeGb) -> Decision {
        let Some(usage) = volume.usage.filter(|usage| usage.bytes_total > 0) else {
            return Decision::Rest;
        };
        let settled = volume.state == VolumeState::Created && volume.formatted && !volume.needs_restart;
        let arrived = volume
            .auto_extended_from_bytes
            .is_none_or(|before| usage.bytes_total > before);
        let percent = percent_used(&usage);
        if !settled || !arrived || percent < self.threshold_percent {
            return Decision::Rest;
        }
        let limit = self
            .size_gb_limit
            .and_then(SizeGb::new)
            .map_or(max, |l| l.min(max));
        if volume.size >= limit {
            return Decision::Blocked {
                why: format!(
                    "volume {} is {percent} % full and has its limit of {} GB; delete files or raise size_gb_limit",
                    volume.id,
                    limit.get()
                ),
            };
        }
        let wanted = volume.size.get().saturating_add(self.add_size_gb);
        let to = SizeGb::new(wanted).map_or(limit, |to| to.min(limit));
        assert!(
            to > volume.size && to <= limit,
            "an extend to {to:?} of {limit:?}"
        );
        Decision::Extend { to, percent }
    }
}

/// Returns how full a file system is to those who are not root, rounded up, as `df` says it.
fn percent_used(usage: &FsUsage) -> u32 {
    let (used, room) = match usage.blocks_avail.checked_mul(usage.block_size) {
        // What is kept for root is neither used nor free.
        Some(available) if usage.blocks > 0 => (usage.bytes_used, usage.bytes_used.saturating_add(available)),
        Some(_) | None => (usage.bytes_used, usage.bytes_total),
    };
    let percent = (u128::from(used) * 100).div_ceil(u128::from(room.max(1)));
    u32::try_from(percent).unwrap_or(u32::MAX)
}
