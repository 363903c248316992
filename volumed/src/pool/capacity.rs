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
}

fn scale(bytes: u64, ratio: f64) -> u64 {
    // Per mille is exact enough, and integer arithmetic has no surprises at the edge.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // clamped to 0..=100,000 just before
    let per_mille = (ratio * 1000.0).clamp(0.0, 100_000.0) as u64;
    u64::try_from(u128::from(bytes) * u128::from(per_mille) / 1000).unwrap_or(u64::MAX)
}
