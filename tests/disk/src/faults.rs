//! What goes wrong with a slice, and on the way from the store.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::RngExt as _;
use sim::Rng;

/// A lasting fault: what it does to a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spoil {
    /// One bit of it is another.
    Flip,
    /// It never arrives, and nobody says so.
    Lose,
    /// It arrives in another place.
    Misdirect,
}

/// Chances of each fault, per call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct FaultRates {
    /// Reads of the slice that fail.
    pub(crate) read_error: f64,
    /// Writes to the slice that fail, and are noticed.
    pub(crate) write_error: f64,
    /// Writes that are spoiled, and are not.
    pub(crate) spoil: f64,
    /// Pages of the map that come back otherwise.
    pub(crate) page: f64,
    /// Answers of the store with a wrong bit.
    pub(crate) wire: f64,
}

impl FaultRates {
    pub(crate) const NONE: Self = Self {
        read_error: 0.0,
        write_error: 0.0,
        spoil: 0.0,
        page: 0.0,
        wire: 0.0,
    };
}

#[derive(Debug)]
struct State {
    rng: Rng,
    rates: FaultRates,
    /// Spoiled pages of the journal since the disk was opened there.
    journal_hits: u32,
    mark: Option<u32>,
}

/// The faults of one host's slice; clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Faults(Arc<Mutex<State>>);

impl Faults {
    pub(crate) fn new(rng: Rng, rates: FaultRates) -> Self {
        Self(Arc::new(Mutex::new(State {
            rng,
            rates,
            journal_hits: 0,
            mark: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn strikes(&self, chance: impl Fn(&FaultRates) -> f64) -> bool {
        let mut state = self.lock();
        let chance = chance(&state.rates);
        chance > 0.0 && state.rng.random_bool(chance)
    }

    pub(crate) fn are_on(&self) -> bool {
        self.lock().rates != FaultRates::NONE
    }

    pub(crate) fn read_fails(&self) -> bool {
        self.strikes(|rates| rates.read_error)
    }

    pub(crate) fn write_fails(&self) -> bool {
        self.strikes(|rates| rates.write_error)
    }

    pub(crate) fn spoils_page(&self) -> bool {
        self.strikes(|rates| rates.page)
    }

    /// What happens to a write. The journal is struck once in a process's life: two copies that fail at once are nobody's promise.
    pub(crate) fn spoils(&self, journal: bool) -> Option<Spoil> {
        if !self.strikes(|rates| rates.spoil) {
            return None;
        }
        let mut state = self.lock();
        if journal {
            if state.journal_hits > 0 {
                return None;
            }
            state.journal_hits += 1;
        }
        let spoil = [Spoil::Flip, Spoil::Lose, Spoil::Misdirect][state.rng.random_range(0..3)];
        if spoil == Spoil::Misdirect && journal {
            // Two places of the journal are wrong then.
            state.journal_hits += 1;
        }
        Some(spoil)
    }

    /// How often the journal was struck since it was last opened.
    pub(crate) fn journal_hits(&self) -> u32 {
        self.lock().journal_hits
    }

    /// What struck before the first superblock of an opening is written is over once it is written.
    pub(crate) fn mark(&self) {
        let mut state = self.lock();
        state.mark = Some(state.journal_hits);
    }

    pub(crate) fn opened(&self) {
        let mut state = self.lock();
        let mark = state.mark.take().unwrap_or(0);
        state.journal_hits -= mark;
    }

    /// Nothing strikes any more.
    pub(crate) fn cease(&self) {
        self.lock().rates = FaultRates::NONE;
    }

    pub(crate) fn below(&self, end: u64) -> u64 {
        self.lock().rng.random_range(0..end)
    }

    /// Changes a bit somewhere.
    pub(crate) fn flip(&self, bytes: &mut [u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut state = self.lock();
        let at = state.rng.random_range(0..bytes.len());
        let bit = state.rng.random_range(0..8);
        bytes[at] ^= 1 << bit;
    }

    /// What arrives of what the store sent.
    pub(crate) fn on_the_wire(&self, bytes: bytes::Bytes) -> bytes::Bytes {
        if !self.strikes(|rates| rates.wire) {
            return bytes;
        }
        let mut damaged = bytes.to_vec();
        self.flip(&mut damaged);
        damaged.into()
    }
}
