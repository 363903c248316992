//! PURE. What is to be done again later.

use std::collections::BTreeMap;

use crate::objects::ObjectName;
use crate::{ObjectSeq, Time};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wake {
    Put(ObjectName),
    Delete(ObjectName),
    Head,
    Layout(ObjectSeq),
    Pins,
}

/// Wakes by their time, and pauses that grow and are never the same for two clients.
#[derive(Debug)]
pub(super) struct Timers {
    wakes: BTreeMap<(Time, u64), Wake>,
    next: u64,
    chance: u64,
    pause: (u64, u64),
}

impl Timers {
    pub(super) fn new(seed: [u8; 8], pause: (u64, u64)) -> Self {
        Self {
            wakes: BTreeMap::new(),
            next: 0,
            chance: u64::from_le_bytes(seed) | 1,
            pause,
        }
    }

    /// Wakes after a pause that fits the number of attempts made: anything up to twice the last limit ("full jitter").
    pub(super) fn retry(&mut self, now: Time, attempts: u32, wake: Wake) {
        let (first, longest) = self.pause;
        let limit = first.saturating_mul(1 << attempts.min(20)).min(longest).max(1);
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let pause = 1 + self.chance % limit;
        self.wakes.insert((now.plus(pause), self.next), wake);
        self.next += 1;
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.wakes.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn due(&mut self, now: Time) -> Vec<Wake> {
        let later = self.wakes.split_off(&(now.plus(1), 0));
        std::mem::replace(&mut self.wakes, later).into_values().collect()
    }
}
