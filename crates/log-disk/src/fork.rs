//! PURE. Forking: a new disk that begins as a snapshot of another, without moving any data.
//!
//! The pins come first, then a second look at the parent, then the fork's HEAD. Whoever removes the snapshot, or deletes the
//! parent, says so in the parent's HEAD first and lists the pins afterwards. So one of the two sees the other: the second look
//! shows that the snapshot is gone, or the list shows the pin. A crash in between leaves pins of a fork that is not there.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::bucket::{BucketAnswer, BucketAsk, BucketStep};
use crate::engine::{GotHead, HeadPut, Mutant};
use crate::head::{BASES_MAX, Head};
use crate::open::HEAD_FLAWS_MAX;
use crate::pin::{PINS_MAX, Pin};
use crate::{DiskId, Flaw, Salt, Sealer};

/// What is to be forked.
#[derive(Debug, Clone)]
pub struct ForkOptions {
    /// Keys of the disk that is forked.
    pub parent: Arc<Sealer>,
    /// Name of the snapshot that the fork begins as.
    pub snapshot: String,
    /// Keys of the fork, which has a name and a data key of its own.
    pub fork: Arc<Sealer>,
    /// The fork's data key, wrapped by the cluster's.
    pub wrapped_key: Vec<u8>,
    /// Random, drawn for this.
    pub salt: Salt,
    /// A mistake made on purpose, so that tests show that they would notice.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

/// Why there is no fork. Nothing of it is left.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ForkError {
    /// There is no HEAD of the parent.
    #[error("the HEAD of {disk} is missing")]
    HeadMissing {
        /// The parent.
        disk: DiskId,
    },
    /// A HEAD cannot be read.
    #[error("the HEAD of {disk}: {flaw}")]
    HeadDamaged {
        /// Whose.
        disk: DiskId,
        /// Why.
        flaw: Flaw,
    },
    /// The parent was deleted.
    #[error("disk {disk} was deleted")]
    Deleted {
        /// The parent.
        disk: DiskId,
    },
    /// The parent has no such snapshot, or has it no more.
    #[error("there is no snapshot {name}")]
    NoSnapshot {
        /// Its name.
        name: String,
    },
    /// The fork's name is another disk's, or was given up.
    #[error("{disk} is another disk's name, or was one")]
    Taken {
        /// The name.
        disk: DiskId,
    },
    /// A fork of a fork, too often.
    #[error("a fork of a fork, {BASES_MAX} times over")]
    TooDeep,
    /// One of the disks that it would read from has too many forks.
    #[error("disk {disk} has {PINS_MAX} forks")]
    TooMany {
        /// Which.
        disk: DiskId,
    },
}

#[derive(Debug)]
enum Step {
    /// Whether an earlier attempt came to its end.
    Before,
    Parent,
    /// Pins of the first of those left are being listed, or put.
    Listing,
    Pinning,
    ParentAgain,
    Head,
    HeadLook,
    /// It cannot be: the name is given up, so that no earlier attempt makes it after all; then the pins go.
    GiveUp(ForkError),
    GiveUpLook(ForkError),
    Unlisting(ForkError),
    Unpinning(ForkError),
    Over,
}

/// A fork being made. It may be begun again after a crash, with the same options, until it is over.
#[derive(Debug)]
pub struct Forking {
    options: ForkOptions,
    step: Step,
    wanted: Option<Head>,
    pins: VecDeque<(DiskId, Pin)>,
    /// The disks that it may have pins with.
    disks: VecDeque<DiskId>,
    /// An earlier attempt gave the name up, and perhaps left pins.
    given_up: bool,
    flaws: u32,
}

type Next = Result<BucketStep<Head>, ForkError>;

impl Forking {
    /// Begins; the first [`BucketAsk`] comes with it.
    #[must_use]
    pub fn new(options: ForkOptions) -> (Self, BucketAsk) {
        let disk = options.fork.disk();
        let forking = Self {
            options,
            step: Step::Before,
            wanted: None,
            pins: VecDeque::new(),
            disks: VecDeque::new(),
            given_up: false,
            flaws: 0,
        };
        (forking, BucketAsk::GetHead { disk })
    }

    /// Takes an answer in and returns what is to be done next, or the fork's HEAD.
    ///
    /// # Errors
    /// [`ForkError`].
    ///
    /// # Panics
    /// When it is no answer to what was asked.
    pub fn answer(&mut self, answer: BucketAnswer) -> Next {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (step, BucketAnswer::Head(GotHead::Unknown)) => {
                self.step = step;
                Ok(self.look())
            }
            (step, BucketAnswer::Head(got)) => self.looked(step, got),
            (Step::Listing, BucketAnswer::Pins(pins)) => Ok(self.listed(&pins)),
            (Step::Pinning, BucketAnswer::Done) => {
                self.pins.pop_front();
                Ok(self.next_pin())
            }
            (Step::Head, BucketAnswer::HeadPut(HeadPut::Stored(_))) => match self.wanted.take() {
                Some(head) => Ok(BucketStep::Over(head)),
                None => unreachable!("it was put"),
            },
            (Step::Head, BucketAnswer::HeadPut(HeadPut::Stale | HeadPut::Unknown)) => {
                Ok(self.look_at(Step::HeadLook))
            }
            (Step::GiveUp(why), BucketAnswer::HeadPut(HeadPut::Stored(_))) => self.unpin(why),
            (Step::GiveUp(why), BucketAnswer::HeadPut(HeadPut::Stale | HeadPut::Unknown)) => {
                Ok(self.look_at(Step::GiveUpLook(why)))
            }
            (Step::Unlisting(why), BucketAnswer::Pins(pins)) => self.unlisted(why, &pins),
            (Step::Unpinning(why), BucketAnswer::Done) => self.unpin(why),
            (step, answer) => panic!("{answer:?} while {step:?}"),
        }
    }

    fn looked(&mut self, step: Step, got: GotHead) -> Next {
        let of_parent = matches!(step, Step::Parent | Step::ParentAgain);
        let sealer = if of_parent {
            &self.options.parent
        } else {
            &self.options.fork
        };
        let disk = sealer.disk();
        let head = match got {
            GotHead::Found { bytes, .. } => match Head::decode(sealer, &bytes) {
                Ok(head) => Some(head),
                // The way from the store may be at fault.
                Err(_) if self.flaws < HEAD_FLAWS_MAX => {
                    self.flaws += 1;
                    return Ok(self.look_at(step));
                }
                Err(flaw) => return Err(ForkError::HeadDamaged { disk, flaw }),
            },
            GotHead::Missing | GotHead::Unknown => None,
        };
        match (step, head) {
            (Step::Before, None) => Ok(self.look_at(Step::Parent)),
            (Step::Before, Some(head)) if head.deleted => {
                self.given_up = true;
                Ok(self.look_at(Step::Parent))
            }
            (Step::Before | Step::HeadLook, Some(head)) => self.made(head),
            (Step::Parent, None) => Err(ForkError::HeadMissing { disk }),
            (Step::Parent, Some(head)) => self.parent(&head),
            (Step::ParentAgain, head) => Ok(self.parent_again(head)),
            (Step::HeadLook, None) => Ok(self.put_head()),
            (Step::GiveUpLook(why), None) => Ok(self.give_up(why)),
            (Step::GiveUpLook(why), Some(head)) if head.deleted => self.unpin(why),
            // An earlier attempt had come further.
            (Step::GiveUpLook(_), Some(head)) => self.made(head),
            (step, head) => panic!("{head:?} while {step:?}"),
        }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.options.mutant == Some(mutant)
    }

    /// The look that the step is about.
    fn look(&self) -> BucketStep<Head> {
        let disk = match self.step {
            Step::Parent | Step::ParentAgain => self.options.parent.disk(),
            _ => self.options.fork.disk(),
        };
        BucketStep::Ask(BucketAsk::GetHead { disk })
    }

    fn look_at(&mut self, step: Step) -> BucketStep<Head> {
        self.step = step;
        self.look()
    }

    /// There is a HEAD with the fork's name: of this fork, from an earlier attempt, or not.
    fn made(&self, head: Head) -> Next {
        let ours = head.bases.last().map(|base| base.disk) == Some(self.options.parent.disk());
        if ours && !head.deleted {
            return Ok(BucketStep::Over(head));
        }
        let disk = self.options.fork.disk();
        Err(ForkError::Taken { disk })
    }

    fn parent(&mut self, head: &Head) -> Next {
        self.disks = head.bases.iter().map(|base| base.disk).collect();
        self.disks.push_back(head.disk);
        let fork = self.options.fork.disk();
        if self.given_up {
            return self.unpin(ForkError::Taken { disk: fork });
        }
        if head.deleted {
            return Ok(self.give_up(ForkError::Deleted { disk: head.disk }));
        }
        if head.bases.len() >= BASES_MAX {
            return Err(ForkError::TooDeep);
        }
        let name = self.options.snapshot.clone();
        let Some(snapshot) = head.snapshot(&name) else {
            // An earlier attempt may have left pins.
            return Ok(self.give_up(ForkError::NoSnapshot { name }));
        };
        let wanted = head.fork(snapshot, fork, self.options.wrapped_key.clone());
        if !self.is(Mutant::ForkWithoutPin) {
            self.pins = pins_of(&wanted).collect();
        }
        self.wanted = Some(wanted);
        Ok(self.next_pin())
    }

    fn next_pin(&mut self) -> BucketStep<Head> {
        let Some((disk, _)) = self.pins.front().copied() else {
            if self.is(Mutant::ForkOfWhatWas) {
                return self.put_head();
            }
            return self.look_at(Step::ParentAgain);
        };
        self.step = Step::Listing;
        BucketStep::Ask(BucketAsk::ListPins { disk })
    }

    fn listed(&mut self, pins: &[Pin]) -> BucketStep<Head> {
        let Some((disk, pin)) = self.pins.front().copied() else {
            unreachable!("pins are listed for one")
        };
        if pins.len() >= PINS_MAX && !pins.contains(&pin) {
            self.pins.clear();
            return self.give_up(ForkError::TooMany { disk });
        }
        self.step = Step::Pinning;
        BucketStep::Ask(BucketAsk::PutPin { disk, pin })
    }

    fn parent_again(&mut self, head: Option<Head>) -> BucketStep<Head> {
        let name = self.options.snapshot.clone();
        let head = head.filter(|head| !head.deleted);
        let still = head
            .as_ref()
            .and_then(|head| head.snapshot(&name))
            .map(|snapshot| snapshot.checkpoint);
        if still.is_some() && still == self.wanted.as_ref().and_then(|wanted| wanted.checkpoint) {
            return self.put_head();
        }
        self.give_up(ForkError::NoSnapshot { name })
    }

    fn put(&self, head: &Head) -> BucketStep<Head> {
        BucketStep::Ask(BucketAsk::PutHead {
            disk: self.options.fork.disk(),
            expected: None,
            body: head.encode(&self.options.fork, self.options.salt).into(),
        })
    }

    fn put_head(&mut self) -> BucketStep<Head> {
        let Some(wanted) = &self.wanted else {
            unreachable!("the parent was read before")
        };
        let ask = self.put(wanted);
        self.step = Step::Head;
        ask
    }

    fn give_up(&mut self, why: ForkError) -> BucketStep<Head> {
        self.step = Step::GiveUp(why);
        let nothing = || Head::new(self.options.fork.disk(), 0, self.options.wrapped_key.clone());
        self.put(&self.wanted.clone().unwrap_or_else(nothing).tombstone())
    }

    /// Nothing can make the fork any more: what any attempt left of it with other disks may go.
    fn unpin(&mut self, why: ForkError) -> Next {
        if let Some((disk, pin)) = self.pins.pop_front() {
            self.step = Step::Unpinning(why);
            return Ok(BucketStep::Ask(BucketAsk::DeletePin { disk, pin }));
        }
        let Some(disk) = self.disks.front().copied() else {
            return Err(why);
        };
        self.step = Step::Unlisting(why);
        Ok(BucketStep::Ask(BucketAsk::ListPins { disk }))
    }

    fn unlisted(&mut self, why: ForkError, pins: &[Pin]) -> Next {
        let fork = self.options.fork.disk();
        if let Some(disk) = self.disks.pop_front() {
            let ours = pins.iter().filter(|pin| pin.fork == fork);
            self.pins = ours.map(|pin| (disk, *pin)).collect();
        }
        self.unpin(why)
    }
}

/// The pins that a fork has, and with whom.
pub(crate) fn pins_of(head: &Head) -> impl Iterator<Item = (DiskId, Pin)> + '_ {
    head.bases.iter().map(|base| {
        let pin = Pin {
            number: base.number,
            fork: head.disk,
        };
        (base.disk, pin)
    })
}

#[cfg(test)]
mod tests;
