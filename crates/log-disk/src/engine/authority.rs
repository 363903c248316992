//! PURE. HEAD: whether the disk is still ours, and every change of it.

use std::collections::VecDeque;

use super::timers::Wake;
use super::{Config, Engine, Etag, GotHead, HeadPut, Mutant, OnOutage, Outcome, Output, RequestId, Stopped};
use crate::Time;
use crate::extent_map::PageStore;
use crate::head::{CheckpointRef, Head, Snapshot};
use crate::open::HEAD_FLAWS_MAX;

/// A change of HEAD that waits for its turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum HeadChange {
    Checkpoint(CheckpointRef),
    Size(u64),
    AddSnapshot(Snapshot),
    RemoveSnapshot(String),
}

/// A compare-and-swap under way.
#[derive(Debug)]
struct Swap {
    head: Head,
    asked: Time,
    wishes: Vec<(HeadChange, Option<RequestId>)>,
    attempts: u32,
    /// Nobody knows what came of it: HEAD must be looked at.
    doubtful: bool,
    running: bool,
}

/// What is known of our right to answer.
#[derive(Debug)]
pub(super) struct Authority {
    /// Until when the last look at HEAD holds.
    until: Time,
    every: u64,
    looking: bool,
    attempts: u32,
    /// Looks in a row that showed something damaged.
    flaws: u32,
    /// When the next look is due; `None` while one waits for its retry.
    next: Option<Time>,
    wishes: VecDeque<(HeadChange, Option<RequestId>)>,
    swap: Option<Swap>,
}

impl Authority {
    pub(super) fn new(confirmed: Time, config: &Config) -> Self {
        let every = (config.authority_us / 3).max(1);
        Self {
            until: confirmed.plus(config.authority_us),
            every,
            looking: false,
            attempts: 0,
            flaws: 0,
            next: Some(confirmed.plus(every)),
            wishes: VecDeque::new(),
            swap: None,
        }
    }

    pub(super) fn next_look(&self) -> Option<Time> {
        self.next.filter(|_| !self.looking)
    }

    pub(super) fn look_again(&mut self) {
        self.looking = false;
        self.next = Some(Time(0));
    }

    pub(super) fn is_settled(&self) -> bool {
        self.swap.is_none() && self.wishes.is_empty()
    }

    /// Gives up every change; returns who waited for one.
    pub(super) fn drop_wishes(&mut self) -> Vec<RequestId> {
        let swap = self.swap.take().map(|swap| swap.wishes).unwrap_or_default();
        swap.into_iter()
            .chain(self.wishes.drain(..))
            .filter_map(|(_, request)| request)
            .collect()
    }
}

impl<S: PageStore> Engine<S> {
    /// Whether answers may be given now.
    pub(super) fn may_tell(&self) -> bool {
        self.config.on_outage == OnOutage::Ride
            || self.now < self.authority.until
            || self.is(Mutant::ZombieAnswers)
    }

    pub(super) fn head_is_busy(&self) -> bool {
        self.authority.swap.is_some() || !self.authority.wishes.is_empty()
    }

    pub(super) fn want_head(&mut self, change: HeadChange, request: Option<RequestId>) {
        self.authority.wishes.push_back((change, request));
    }

    pub(super) fn grow(&mut self, request: RequestId, size_blocks: u64) {
        if size_blocks < self.head.size_blocks || size_blocks > crate::units::LBA_END {
            self.finish(self.now, request, Outcome::Refused);
        } else {
            self.want_head(HeadChange::Size(size_blocks), Some(request));
        }
    }

    pub(super) fn remove_snapshot(&mut self, request: RequestId, name: String) {
        if self.head.snapshots.iter().any(|snapshot| snapshot.name == name) {
            self.want_head(HeadChange::RemoveSnapshot(name), Some(request));
        } else {
            self.finish(self.now, request, Outcome::Refused);
        }
    }

    /// Looks at HEAD when it is time to.
    pub(super) fn advance_authority(&mut self, out: &mut Vec<Output>) {
        let due = self.authority.next.is_some_and(|at| at <= self.now);
        if due && !self.authority.looking {
            self.authority.looking = true;
            self.authority.next = None;
            out.push(Output::GetHead { asked: self.now });
        }
    }

    /// Begins the next change of HEAD: all that are waiting, in one.
    pub(super) fn advance_head(&mut self, out: &mut Vec<Output>) {
        if self.stopped.is_some() || self.authority.swap.is_some() || self.authority.wishes.is_empty() {
            return;
        }
        let wishes: Vec<_> = self.authority.wishes.drain(..).collect();
        let mut head = self.head.clone();
        head.revision += 1;
        for (change, _) in &wishes {
            match change {
                HeadChange::Checkpoint(reference) => {
                    head.checkpoint = Some(*reference);
                    head.forget_covered_streams();
                }
                HeadChange::Size(size_blocks) => head.size_blocks = head.size_blocks.max(*size_blocks),
                HeadChange::AddSnapshot(snapshot) => head.snapshots.push(snapshot.clone()),
                HeadChange::RemoveSnapshot(name) => head.snapshots.retain(|snapshot| snapshot.name != *name),
            }
        }
        self.authority.swap = Some(Swap {
            head,
            asked: self.now,
            wishes,
            attempts: 0,
            doubtful: false,
            running: false,
        });
        self.swap_head(out);
    }

    fn swap_head(&mut self, out: &mut Vec<Output>) {
        let (sealer, salt, etag, now) = (&self.sealer, self.salt, self.etag.clone(), self.now);
        if let Some(swap) = self.authority.swap.as_mut().filter(|swap| !swap.running) {
            swap.running = true;
            swap.doubtful = false;
            swap.asked = now;
            out.push(Output::PutHead {
                expected: etag,
                body: swap.head.encode(sealer, salt).into(),
            });
        }
    }

    pub(super) fn head_put(&mut self, outcome: HeadPut, out: &mut Vec<Output>) {
        let own_is_fencing = self.is(Mutant::OwnSwapIsFencing);
        let Some(swap) = self.authority.swap.as_mut() else {
            return;
        };
        swap.running = false;
        match outcome {
            HeadPut::Stored(etag) => self.committed(etag),
            HeadPut::Stale if own_is_fencing => {
                let by = self.epoch;
                self.stop(Stopped::Fenced { by }, out);
            }
            // It may be our own that was applied and whose answer was lost: only HEAD itself can tell.
            HeadPut::Stale | HeadPut::Unknown => {
                swap.doubtful = true;
                swap.attempts += 1;
                if !self.authority.looking {
                    let attempts = swap.attempts;
                    self.authority.looking = true;
                    self.authority.next = None;
                    self.timers.retry(self.now, attempts, Wake::Head);
                }
            }
        }
    }

    pub(super) fn head_got(&mut self, asked: Time, got: GotHead, out: &mut Vec<Output>) {
        self.authority.looking = false;
        let (bytes, etag) = match got {
            GotHead::Found { bytes, etag } => (bytes, etag),
            GotHead::Missing => return self.stop(Stopped::Head, out),
            GotHead::Unknown => {
                self.authority.attempts += 1;
                self.authority.looking = true;
                self.timers.retry(self.now, self.authority.attempts, Wake::Head);
                return;
            }
        };
        let Ok(found) = Head::decode(&self.sealer, &bytes) else {
            self.authority.flaws += 1;
            if self.authority.flaws > HEAD_FLAWS_MAX {
                return self.stop(Stopped::Head, out);
            }
            // The way from the store may be at fault.
            self.authority.looking = true;
            self.timers.retry(self.now, 1, Wake::Head);
            return;
        };
        self.authority.flaws = 0;
        if found.epoch != self.epoch || found.owner != self.head.owner {
            let by = found.epoch;
            return self.stop(Stopped::Fenced { by }, out);
        }
        self.authority.attempts = 0;
        self.authority.until = self.authority.until.max(asked.plus(self.config.authority_us));
        self.authority.next = Some(asked.plus(self.authority.every).max(self.now.plus(1)));
        let Some(swap) = self
            .authority
            .swap
            .as_ref()
            .filter(|swap| swap.doubtful && !swap.running)
        else {
            return;
        };
        // A look that began before the swap did says nothing of it.
        if asked < swap.asked {
            self.authority.next = Some(self.now);
        } else if found == swap.head {
            self.committed(etag);
        } else if found.revision == self.head.revision {
            self.swap_head(out);
        } else {
            self.stop(Stopped::Head, out);
        }
    }

    fn committed(&mut self, etag: Etag) {
        let Some(swap) = self.authority.swap.take() else {
            return;
        };
        self.head = swap.head;
        self.etag = etag;
        self.authority.until = self
            .authority
            .until
            .max(swap.asked.plus(self.config.authority_us));
        for (change, request) in swap.wishes {
            match change {
                HeadChange::Checkpoint(reference) => self.checkpoint_committed(reference),
                HeadChange::Size(_) => self.resized = true,
                HeadChange::RemoveSnapshot(_) => self.pins_are_old(),
                HeadChange::AddSnapshot(_) => {}
            }
            if let Some(request) = request {
                self.finish(self.now, request, Outcome::Done);
            }
        }
    }
}
