//! PURE. Whether whole lines are worth fetching: some guests never read the same place twice.

/// Bytes fetched over which the ratio is taken; older ones count half.
const WINDOW_BYTES: u64 = 64 << 20;
/// Nothing is concluded from less.
const ENOUGH_BYTES: u64 = 4 << 20;
/// While the guard is on, one line in so many is let in, so that it notices when times change.
const SAMPLE: u64 = 16;

/// Compares what was fetched as whole lines with what was wanted of them.
#[derive(Debug)]
pub(super) struct ThrashGuard {
    permille_max: u64,
    fetched: u64,
    served: u64,
    on: bool,
    asked: u64,
}

impl ThrashGuard {
    pub(super) fn new(permille_max: u64) -> Self {
        Self {
            permille_max,
            fetched: 0,
            served: 0,
            on: false,
            asked: 0,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.on
    }

    /// Says whether a line that is wanted for the first time is to be kept.
    pub(super) fn lets_in(&mut self) -> bool {
        self.asked += 1;
        !self.on || self.asked.is_multiple_of(SAMPLE)
    }

    pub(super) fn fetched(&mut self, bytes: u64) {
        self.fetched += bytes;
        if self.fetched > WINDOW_BYTES {
            self.fetched /= 2;
            self.served /= 2;
        }
        self.judge();
    }

    pub(super) fn served(&mut self, bytes: u64) {
        self.served += bytes;
        self.judge();
    }

    fn judge(&mut self) {
        let (fetched, bound) = (
            self.fetched.saturating_mul(1000),
            self.served.saturating_mul(self.permille_max),
        );
        // It goes off a little below where it goes on.
        self.on = if self.on {
            fetched.saturating_mul(4) > bound.saturating_mul(3)
        } else {
            self.fetched >= ENOUGH_BYTES && fetched > bound
        };
    }
}
