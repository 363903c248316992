//! PURE. How much a writer is slowed down, so that it meets a slope and not a cliff.

/// Thousandths of the ring, or of the permitted lag, at which writes begin to be slowed down.
const SLOW_FROM: u64 = 500;
/// Thousandths at which no write is let in any more.
pub(crate) const BLOCK_FROM: u64 = 950;
/// No single write waits longer for being slowed down, in microseconds.
const DELAY_MAX: u64 = 500_000;
/// The store is believed to be at least this fast, in bytes a second.
const RATE_MIN: u64 = 1 << 20;

/// Returns how long the answer to a write of `bytes` is held back, in microseconds: nothing below half of what there is
/// room for, then a growing share of the time that the store takes for as many bytes, all of it where writes are blocked.
pub(crate) fn delay(fill_permille: u64, bytes: u64, drain_bytes_per_s: u64) -> u64 {
    let over = fill_permille.min(BLOCK_FROM).saturating_sub(SLOW_FROM);
    let drain = bytes.saturating_mul(1_000_000) / drain_bytes_per_s.max(RATE_MIN);
    (drain.saturating_mul(over) / (BLOCK_FROM - SLOW_FROM)).min(DELAY_MAX)
}

/// How fast the store takes what is written, measured over the last seconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DrainRate {
    began: crate::Time,
    bytes: u64,
    rate: u64,
}

impl DrainRate {
    /// Over how long it is measured at least, in microseconds.
    const WINDOW: u64 = 1_000_000;

    pub(crate) fn new(now: crate::Time) -> Self {
        Self {
            began: now,
            bytes: 0,
            // Optimistic: until something has been measured nobody is slowed down much.
            rate: 200 << 20,
        }
    }

    /// Counts bytes that have arrived.
    pub(crate) fn count(&mut self, now: crate::Time, bytes: u64) {
        self.bytes += bytes;
        let elapsed = now.since(self.began);
        if elapsed >= Self::WINDOW {
            let measured = self.bytes.saturating_mul(1_000_000) / elapsed;
            self.rate = u64::midpoint(self.rate, measured);
            self.began = now;
            self.bytes = 0;
        }
    }

    pub(crate) fn bytes_per_s(self) -> u64 {
        self.rate
    }
}

#[cfg(test)]
mod tests;
