use super::PoolUsage;

/// The operator's room rules of a pool. Pure arithmetic.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Capacity {
    /// Bytes of the pool that are never promised.
    pub reserve_bytes: u64,
    /// How often the room may be promised; 1 promises nothing that is not there.
    pub overcommit_ratio: f64,
}

impl Capacity {
    /// Returns how many bytes may be promised in all: (what our slices take + free − reserve) × ratio.
    pub fn promisable_bytes(&self, usage: &PoolUsage) -> u64 {
        let room = usage
            .allocated_bytes
            .saturating_add(usage.free_bytes)
            .saturating_sub(self.reserve_bytes);
        scale(room, self.overcommit_ratio)
    }

    /// Says whether captures that only speed up the next backup have to go: before [others](Self::is_short), and before room
    /// that was promised is touched.
    ///
    /// * `free_bytes`, `unwritten_bytes`: as for the others.
    pub fn is_tight(&self, free_bytes: u64, unwritten_bytes: u64) -> bool {
        let kept_bytes = if self.overcommit_ratio > 1.0 {
            self.reserve_bytes.saturating_mul(2)
        } else {
            unwritten_bytes.saturating_add(self.reserve_bytes)
        };
        free_bytes < kept_bytes
    }

    /// Says whether captures have to go so that volumes can be written as far as they were promised. Half of the reserve is
    /// theirs; where more is promised than there is, all of it is the volumes'.
    ///
    /// * `free_bytes`: of the pool, as they will be at the next look.
    /// * `unwritten_bytes`: what volumes were promised and have not taken yet.
    pub fn is_short(&self, free_bytes: u64, unwritten_bytes: u64) -> bool {
        let kept_bytes = if self.overcommit_ratio > 1.0 {
            self.reserve_bytes
        } else {
            unwritten_bytes.saturating_add(self.reserve_bytes / 2)
        };
        free_bytes < kept_bytes
    }
}

fn scale(bytes: u64, ratio: f64) -> u64 {
    // Per mille is exact enough, and integer arithmetic has no surprises at the edge.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=100,000 just before
    let per_mille = (ratio * 1000.0).clamp(0.0, 100_000.0) as u64;
    u64::try_from(u128::from(bytes) * u128::from(per_mille) / 1000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
