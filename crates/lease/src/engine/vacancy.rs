//! PURE. A lease that is free, and who wants it.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::Mutant;
use crate::{NodeId, Progress, View};

/// Somebody who has not said for so many windows that he wants it does not any more.
const SILENT_WINDOWS: u32 = 3;

/// Who comes before whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rank {
    mutant: Option<Mutant>,
}

impl Rank {
    pub(super) fn new(mutant: Option<Mutant>) -> Self {
        Self { mutant }
    }

    fn compare(self, one: (Progress, &NodeId), other: (Progress, &NodeId)) -> Ordering {
        match self.mutant {
            Some(Mutant::FirstWins) => Ordering::Greater,
            Some(Mutant::ForgetEpoch) => (one.0.txids, one.1).cmp(&(other.0.txids, other.1)),
            Some(Mutant::TakeEarly | Mutant::NeverExpire | Mutant::EmptyWins) | None => one.cmp(&other),
        }
    }
}

/// A lease that is free for this node.
#[derive(Debug)]
pub(super) struct Vacancy {
    /// It is to be said that this node wants it.
    pub(super) announce: bool,
    /// It is to be taken.
    pub(super) acquire: bool,
    window: Duration,
    patient_until: Instant,
    decides_at: Instant,
    /// The others' last beats, and when they came.
    heard: BTreeMap<NodeId, (u64, Instant)>,
}

impl Vacancy {
    /// Begins.
    ///
    /// * `window`: how long the others have to be heard.
    /// * `patience`: how much longer, because somebody else may have more.
    pub(super) fn new(now: Instant, window: Duration, patience: Duration) -> Self {
        Self {
            announce: true,
            acquire: false,
            window,
            patient_until: now + patience,
            decides_at: now + window,
            heard: BTreeMap::new(),
        }
    }

    pub(super) fn decides_at(&self) -> Instant {
        self.decides_at
    }

    /// Takes up who wants the lease, and decides when it is time.
    pub(super) fn looked(&mut self, now: Instant, view: &View, me: (Progress, &NodeId), rank: &Rank) {
        for (node, candidate) in &view.candidates {
            let heard = self.heard.entry(node.clone()).or_insert((candidate.beat, now));
            if heard.0 != candidate.beat {
                *heard = (candidate.beat, now);
            }
        }
        if now < self.decides_at {
            return;
        }
        let lives = |node: &NodeId| {
            let heard = self.heard.get(node);
            heard.is_some_and(|(_, at)| now < *at + self.window * SILENT_WINDOWS)
        };
        let beaten = view.candidates.iter().any(|(node, candidate)| {
            node != me.1 && lives(node) && rank.compare((candidate.progress, node), me) == Ordering::Greater
        });
        let known = view.candidates.contains_key(me.1);
        if known && !beaten && now >= self.patient_until {
            self.acquire = true;
        } else {
            self.announce = true;
            self.decides_at = now + self.window;
        }
    }
}
