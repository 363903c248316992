//! PURE. On a replica: a write lock that the primary has granted, and until when it is believed in.

use std::time::{Duration, Instant};

use ltx::Pos;

use super::wire::LITEFS_LASTS;

/// What is begun later than so long before the end is not likely to be committed in time; of locks that last less than
/// [`LITEFS_LASTS`], a tenth of it.
const MARGIN: Duration = Duration::from_secs(3);
/// A lock is renewed so many times as long as it lasts.
const RENEWALS: u32 = 3;

/// How far the replica is from where the database was when the lock was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reached {
    /// Transactions are on their way.
    Behind,
    /// It is there.
    There,
    /// It has others.
    Elsewhere,
}

/// A write lock that the primary has granted.
///
/// It ends sooner here than there: its time begins when it was asked for, by a clock that nobody sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holding {
    id: i64,
    pos: Pos,
    lasts: Duration,
    until: Instant,
    asked_at: Instant,
    renews: bool,
    ended: bool,
}

impl Holding {
    /// Takes a lock up.
    ///
    /// * `pos`: where the primary's database was.
    /// * `asked_at`: when it was asked for.
    /// * `lasts`: how long it lasts, if the primary renews it.
    #[must_use]
    pub fn new(id: i64, pos: Pos, asked_at: Instant, lasts: Option<Duration>) -> Self {
        let renews = lasts.is_some();
        let lasts = lasts.unwrap_or(LITEFS_LASTS);
        Self {
            id,
            pos,
            lasts,
            until: asked_at + lasts,
            asked_at,
            renews,
            ended: false,
        }
    }

    /// Returns its number.
    #[must_use]
    pub fn id(&self) -> i64 {
        self.id
    }

    /// Compares where the replica is with where the primary was.
    #[must_use]
    pub fn reached(&self, ours: Pos) -> Reached {
        match ours {
            _ if ours == self.pos => Reached::There,
            _ if ours.txid < self.pos.txid => Reached::Behind,
            _ => Reached::Elsewhere,
        }
    }

    /// Tells whether an application may begin or go on with a transaction.
    #[must_use]
    pub fn may_write(&self, now: Instant) -> bool {
        !self.ended && now + MARGIN.min(self.lasts / 10) < self.until
    }

    /// Tells whether a transaction may be brought to the primary.
    #[must_use]
    pub fn may_commit(&self, now: Instant) -> bool {
        !self.ended && now < self.until
    }

    /// Returns until when it lasts.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.until
    }

    /// Returns when to do something about it: to ask again, or to give it up because it has ended.
    #[must_use]
    pub fn next(&self) -> Instant {
        if self.renews {
            self.until.min(self.asked_at + self.lasts / RENEWALS)
        } else {
            self.until
        }
    }

    /// It was asked for again, and granted.
    pub fn renewed(&mut self, asked_at: Instant, lasts: Option<Duration>) {
        self.asked_at = asked_at;
        if let Some(lasts) = lasts {
            self.until = self.until.max(asked_at + lasts);
        }
    }

    /// It was asked for again, and nothing came back: it lasts as long as it did, and is asked for soon.
    pub fn unanswered(&mut self, asked_at: Instant) {
        self.asked_at = asked_at;
    }

    /// It is given back, or the primary does not know it, or is another.
    pub fn end(&mut self) {
        self.ended = true;
    }
}

#[cfg(test)]
mod tests;
