//! PURE. Deleting a disk: HEAD says so first, then everything goes that none of its forks needs.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::bucket::{BucketAnswer, BucketAsk, BucketStep};
use crate::engine::{Etag, GotHead, HeadPut, Mutant};
use crate::fork::pins_of;
use crate::head::Head;
use crate::objects::{ObjectName, Objects, Role};
use crate::open::{HEAD_FLAWS_MAX, WantedParts, front_part, open_front};
use crate::pin::Pin;
use crate::{DiskId, Flaw, Lineage, OpenError, Salt, Sealer};

/// Most objects deleted in one step.
const DELETES_AT_ONCE: usize = 256;

/// What is to be deleted.
#[derive(Debug, Clone)]
pub struct ReapOptions {
    /// Keys of the disk.
    pub sealer: Arc<Sealer>,
    /// Random, drawn for this.
    pub salt: Salt,
    /// A mistake made on purpose, so that tests show that they would notice.
    #[doc(hidden)]
    pub mutant: Option<Mutant>,
}

/// What is left of a deleted disk, besides HEAD, which stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reaped {
    /// Objects that forks still need: to be reaped again when one of those is deleted.
    pub kept: u64,
    /// The disks that it was forked from. Those of them that are deleted can be reaped again now.
    pub bases: Vec<DiskId>,
}

/// Why a disk was not deleted, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReapError {
    /// There is no HEAD.
    #[error("HEAD is missing")]
    HeadMissing,
    /// HEAD cannot be read.
    #[error("HEAD: {flaw}")]
    HeadDamaged {
        /// Why.
        flaw: Flaw,
    },
    /// What its forks need cannot be told.
    #[error("what forks need: {why}")]
    Table {
        /// Why.
        why: OpenError,
    },
}

#[derive(Debug)]
enum Step {
    Look,
    Mark(Box<Head>),
    Unpin,
    Pins,
    Table { attempts: u32 },
    List(Role),
    Delete,
    Over,
}

/// A disk being deleted. It may be begun again, after a crash or at any later time.
#[derive(Debug)]
pub struct Reaping {
    options: ReapOptions,
    step: Step,
    flaws: u32,
    head: Option<(Head, Etag)>,
    pins: VecDeque<(DiskId, Pin)>,
    /// Numbers of the checkpoints that forks need.
    needed: Vec<u64>,
    table: Objects,
    roles: VecDeque<Role>,
    doomed: VecDeque<ObjectName>,
    kept: BTreeSet<ObjectName>,
}

type Next = Result<BucketStep<Reaped>, ReapError>;

impl Reaping {
    /// Begins; the first [`BucketAsk`] comes with it.
    #[must_use]
    pub fn new(options: ReapOptions) -> (Self, BucketAsk) {
        let disk = options.sealer.disk();
        let reaping = Self {
            options,
            step: Step::Look,
            flaws: 0,
            head: None,
            pins: VecDeque::new(),
            needed: Vec::new(),
            table: Objects::default(),
            roles: [Role::Data, Role::Gc, Role::Checkpoint].into(),
            doomed: VecDeque::new(),
            kept: BTreeSet::new(),
        };
        (reaping, BucketAsk::GetHead { disk })
    }

    /// Takes an answer in and returns what is to be done next, or that it is over.
    ///
    /// # Errors
    /// [`ReapError`].
    ///
    /// # Panics
    /// When it is no answer to what was asked.
    pub fn answer(&mut self, answer: BucketAnswer) -> Next {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Look, BucketAnswer::Head(got)) => self.looked(got),
            (Step::Mark(_), BucketAnswer::HeadPut(HeadPut::Stale | HeadPut::Unknown)) => Ok(self.look()),
            (Step::Mark(head), BucketAnswer::HeadPut(HeadPut::Stored(etag))) => {
                self.head = Some((*head, etag));
                Ok(self.unpin())
            }
            (Step::Unpin, BucketAnswer::Done) => Ok(self.unpin()),
            (Step::Pins, BucketAnswer::Pins(pins)) => {
                self.needed = pins.iter().map(|pin| pin.number).collect();
                self.read_table(0)
            }
            (Step::Table { attempts }, BucketAnswer::Got(got)) => self.table(attempts, got),
            (Step::List(role), BucketAnswer::Listed(names)) => Ok(self.listed(role, names)),
            (Step::Delete, BucketAnswer::Done) => Ok(self.delete()),
            (step, answer) => panic!("{answer:?} while {step:?}"),
        }
    }

    fn disk(&self) -> DiskId {
        self.options.sealer.disk()
    }

    fn head(&self) -> &Head {
        match &self.head {
            Some((head, _)) => head,
            None => unreachable!("HEAD was read first"),
        }
    }

    fn look(&mut self) -> BucketStep<Reaped> {
        self.step = Step::Look;
        BucketStep::Ask(BucketAsk::GetHead { disk: self.disk() })
    }

    fn looked(&mut self, got: GotHead) -> Next {
        let (bytes, etag) = match got {
            GotHead::Found { bytes, etag } => (bytes, etag),
            GotHead::Missing => return Err(ReapError::HeadMissing),
            GotHead::Unknown => return Ok(self.look()),
        };
        let head = match Head::decode(&self.options.sealer, &bytes) {
            Ok(head) => head,
            // The way from the store may be at fault.
            Err(_) if self.flaws < HEAD_FLAWS_MAX => {
                self.flaws += 1;
                return Ok(self.look());
            }
            Err(flaw) => return Err(ReapError::HeadDamaged { flaw }),
        };
        let goes_first = self.options.mutant == Some(Mutant::PinGoesFirst);
        if goes_first && self.head.is_none() {
            self.pins = pins_of(&head).collect();
            self.head = Some((head, etag));
            return Ok(self.unpin());
        }
        if head.deleted {
            self.pins = pins_of(&head).collect();
            self.head = Some((head, etag));
            return Ok(self.unpin());
        }
        Ok(self.mark(&head, etag))
    }

    fn mark(&mut self, head: &Head, etag: Etag) -> BucketStep<Reaped> {
        let tombstone = head.tombstone();
        let body = tombstone.encode(&self.options.sealer, self.options.salt).into();
        self.pins = pins_of(head).collect();
        self.step = Step::Mark(Box::new(tombstone));
        BucketStep::Ask(BucketAsk::PutHead {
            disk: self.disk(),
            expected: Some(etag),
            body,
        })
    }

    /// Nobody opens it any more, so nothing is read through it: what it needed of others may go.
    fn unpin(&mut self) -> BucketStep<Reaped> {
        if let Some((disk, pin)) = self.pins.pop_front() {
            self.step = Step::Unpin;
            return BucketStep::Ask(BucketAsk::DeletePin { disk, pin });
        }
        if let Some((head, etag)) = self.head.clone().filter(|(head, _)| !head.deleted) {
            return self.mark(&head, etag);
        }
        self.step = Step::Pins;
        BucketStep::Ask(BucketAsk::ListPins { disk: self.disk() })
    }

    /// Which object is needed when is known to the newest checkpoint.
    fn read_table(&mut self, attempts: u32) -> Next {
        let head = self.head();
        let inherited = head.bases.last().map_or(0, |base| base.last.0);
        let own = head.checkpoint.filter(|checkpoint| checkpoint.seq.0 > inherited);
        let Some(reference) = own.filter(|_| !self.needed.is_empty()) else {
            return Ok(self.next_list());
        };
        let lineage = self.lineage();
        self.step = Step::Table { attempts };
        Ok(BucketStep::Ask(BucketAsk::Get(WantedParts {
            parts: vec![front_part(&lineage, &reference)],
            fresh: true,
        })))
    }

    /// Its own checkpoint is all that is read: no other keys are needed.
    fn lineage(&self) -> Lineage {
        Lineage::alone(Arc::clone(&self.options.sealer))
    }

    fn table(&mut self, attempts: u32, got: Vec<Option<bytes::Bytes>>) -> Next {
        let Some(reference) = self.head().checkpoint else {
            unreachable!("it was asked for")
        };
        match open_front(&self.lineage(), &reference, got.into_iter().next().flatten()) {
            Ok(front) => {
                self.table = front.objects;
                // What is kept one day is told by this one alone.
                self.kept.insert(reference.name());
                Ok(self.next_list())
            }
            Err(_) if attempts < HEAD_FLAWS_MAX => self.read_table(attempts + 1),
            Err(why) => Err(ReapError::Table { why }),
        }
    }

    fn next_list(&mut self) -> BucketStep<Reaped> {
        let Some(role) = self.roles.pop_front() else {
            return BucketStep::Over(Reaped {
                kept: self.kept.len() as u64,
                bases: self.head().bases.iter().map(|base| base.disk).collect(),
            });
        };
        self.step = Step::List(role);
        BucketStep::Ask(BucketAsk::List {
            disk: self.disk(),
            role,
        })
    }

    fn listed(&mut self, _: Role, names: Vec<ObjectName>) -> BucketStep<Reaped> {
        for name in names {
            let known = self.table.name(name.seq) == Some(name);
            if known && self.table.is_needed_at(name.seq, &self.needed) {
                self.kept.insert(name);
            }
            if !self.kept.contains(&name) {
                self.doomed.push_back(name);
            }
        }
        self.delete()
    }

    fn delete(&mut self) -> BucketStep<Reaped> {
        if self.doomed.is_empty() {
            return self.next_list();
        }
        let count = self.doomed.len().min(DELETES_AT_ONCE);
        self.step = Step::Delete;
        BucketStep::Ask(BucketAsk::Delete {
            disk: self.disk(),
            names: self.doomed.drain(..count).collect(),
        })
    }
}
