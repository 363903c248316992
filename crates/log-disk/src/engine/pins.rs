//! PURE. What forks of this disk need: looked up before anything is deleted that only a removed snapshot kept.

use std::collections::BTreeSet;

use super::timers::Wake;
use super::{Engine, Mutant, Output};
use crate::Pin;
use crate::extent_map::PageStore;

/// What is known of the pins.
///
/// A fork of a snapshot leaves its pin before it looks whether HEAD still has the snapshot. So a list that is begun after HEAD
/// has lost it shows every fork of it that there will ever be.
#[derive(Debug, Default)]
pub(super) struct Pins {
    /// Numbers of checkpoints that forks need; `None` when nobody has looked since a snapshot was removed.
    known: Option<BTreeSet<u64>>,
    /// +1 at each removal of a snapshot: a list counts when it was asked for in the round that still is.
    round: u64,
    asked: Option<u64>,
    due: bool,
    attempts: u32,
}

impl Pins {
    pub(super) fn new() -> Self {
        Self {
            due: true,
            ..Self::default()
        }
    }

    pub(super) fn is_settled(&self) -> bool {
        !self.due && self.asked.is_none()
    }

    pub(super) fn look_again(&mut self) {
        self.due = true;
    }

    pub(super) fn known(&self) -> Option<&BTreeSet<u64>> {
        self.known.as_ref()
    }
}

impl<S: PageStore> Engine<S> {
    /// HEAD has lost a snapshot: what was known of forks of it holds no more.
    pub(super) fn pins_are_old(&mut self) {
        if self.is(Mutant::OldPins) {
            return;
        }
        self.pins.known = None;
        self.pins.round += 1;
        self.pins.due = true;
    }

    pub(super) fn advance_pins(&mut self, out: &mut Vec<Output>) {
        if self.pins.due && self.pins.asked.is_none() {
            let asked = self.pins.round;
            self.pins.due = false;
            self.pins.asked = Some(asked);
            out.push(Output::ListPins { asked });
        }
    }

    pub(super) fn pins_got(&mut self, asked: u64, pins: Option<Vec<Pin>>) {
        if self.pins.asked != Some(asked) {
            return;
        }
        self.pins.asked = None;
        let Some(pins) = pins else {
            self.pins.attempts += 1;
            self.timers.retry(self.now, self.pins.attempts, Wake::Pins);
            return;
        };
        self.pins.attempts = 0;
        if asked != self.pins.round {
            self.pins.due = true;
            return;
        }
        self.pins.known = Some(pins.into_iter().map(|pin| pin.number).collect());
        self.dig_graves();
    }
}
