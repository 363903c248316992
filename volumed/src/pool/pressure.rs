//! PURE. Decides from how full a pool is whether it takes new work: first it warns, then it refuses, long before anything stops.
//!
//! This is about bytes that are in use. What is promised is bounded by [`Capacity`](super::Capacity); a pool whose file
//! system others fill, or that was overcommitted, keeps within its promises and fills up all the same.

use super::{Capacity, PoolUsage};

#[cfg(test)]
mod tests;

/// How full one measured part of a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gauge {
    /// What is measured: `data`, `metadata`.
    pub what: &'static str,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Bytes that there are for it, those in use included.
    pub room_bytes: u64,
}

impl Gauge {
    /// Returns how full it is, rounded up; 100 when there is no room at all.
    pub fn percent(&self) -> u32 {
        if self.room_bytes == 0 {
            return 100;
        }
        let percent = (u128::from(self.used_bytes) * 100).div_ceil(u128::from(self.room_bytes));
        u32::try_from(percent).unwrap_or(u32::MAX)
    }
}

/// Something wrong with a pool that is not fullness. It takes no new work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One word for the API and the event: `needs_check`, `read_only`.
    pub state: &'static str,
    /// What is wrong, and what to do.
    pub sentence: String,
}

/// What a pool measures of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Its parts; the fullest counts.
    pub gauges: Vec<Gauge>,
    /// What is wrong with it.
    pub fault: Option<Fault>,
}

impl Reading {
    /// Measures how much of what is ours or free, less the reserve, is taken.
    pub fn of_data(usage: &PoolUsage, capacity: &Capacity) -> Self {
        let room_bytes = usage
            .allocated_bytes
            .saturating_add(usage.free_bytes)
            .saturating_sub(capacity.reserve_bytes);
        let data = Gauge {
            what: "data",
            used_bytes: usage.allocated_bytes,
            room_bytes,
        };
        Self {
            gauges: vec![data],
            fault: None,
        }
    }
}

/// From when on a pool warns and refuses, in per cent of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PressureRules {
    /// From here on it is filling; more than 0.
    pub warn_percent: u8,
    /// From here on it takes no new work; more than that, and at most 100.
    pub refuse_percent: u8,
}

impl Default for PressureRules {
    fn default() -> Self {
        Self {
            warn_percent: 80,
            refuse_percent: 90,
        }
    }
}

impl PressureRules {
    /// Makes rules; none unless 0 < warn < refuse ≤ 100.
    pub fn new(warn_percent: u8, refuse_percent: u8) -> Option<Self> {
        (0 < warn_percent && warn_percent < refuse_percent && refuse_percent <= 100).then_some(Self {
            warn_percent,
            refuse_percent,
        })
    }
}

/// How a pool is off, the worse the greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// There is room.
    #[default]
    Ok,
    /// Somebody should make room.
    Filling,
    /// No new work.
    Full,
    /// No new work until it was repaired.
    Faulty,
}

impl Pressure {
    /// Says whether new work is refused.
    pub fn refuses(self) -> bool {
        self >= Self::Full
    }
}

/// What a reading comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How it is off.
    pub pressure: Pressure,
    /// One word: `ok`, `filling`, `full`, or the fault's.
    pub state: &'static str,
    /// Why, unless it is ok: a sentence that says what to do.
    pub reason: Option<String>,
}

/// A level is left only this far below where it was entered, so that nobody is told every half a minute.
const RELIEF_PERCENT: u32 = 2;

/// Judges a reading of a pool that was judged `before`.
pub fn judge(rules: &PressureRules, before: Pressure, reading: &Reading) -> Verdict {
    if let Some(fault) = &reading.fault {
        return Verdict {
            pressure: Pressure::Faulty,
            state: fault.state,
            reason: Some(fault.sentence.clone()),
        };
    }
    let fullest = reading.gauges.iter().max_by_key(|gauge| gauge.percent());
    let percent = fullest.map_or(0, Gauge::percent);
    let reached = |level: Pressure, at: u8| {
        let relief = if before >= level && before != Pressure::Faulty {
            RELIEF_PERCENT
        } else {
            0
        };
        percent + relief >= u32::from(at)
    };
    let (pressure, state) = if reached(Pressure::Full, rules.refuse_percent) {
        (Pressure::Full, "full")
    } else if reached(Pressure::Filling, rules.warn_percent) {
        (Pressure::Filling, "filling")
    } else {
        (Pressure::Ok, "ok")
    };
    let what = fullest.map_or("data", |gauge| gauge.what);
    let reason = match pressure {
        Pressure::Ok => None,
        Pressure::Filling => Some(format!(
            "its {what} is {percent} % full; new work is refused from {} % on: add space or delete volumes",
            rules.refuse_percent
        )),
        Pressure::Full | Pressure::Faulty => Some(format!(
            "its {what} is {percent} % full and takes no new work from {} % on: add space or delete volumes; what exists goes on",
            rules.refuse_percent
        )),
    };
    Verdict {
        pressure,
        state,
        reason,
    }
}
