//! PURE. Going back to a snapshot: a checkpoint whose map is the snapshot's, and whose table of objects is today's.

use bytes::Bytes;

use super::load::{Attempts, WantedParts, front_part, open_front};
use super::steps::{Next, Step};
use super::{Ask, OpenError, Opening};
use crate::Flaw;
use crate::checkpoint::{Checkpoint, CheckpointHeader};
use crate::engine::PutOutcome;
use crate::extent_map::PageStore;
use crate::head::{CheckpointRef, Head};
use crate::objects::{ObjectFacts, Role};

/// What is being gone back to.
#[derive(Debug)]
pub(super) struct GoingBack {
    newest: CheckpointRef,
    past: CheckpointRef,
    /// The newest checkpoint, once it is read.
    read: Option<Checkpoint>,
    attempts: Attempts,
}

impl<S: PageStore> Opening<S> {
    /// Begins to go back to a snapshot: nothing that was written since counts, be it in objects or in the journal.
    pub(super) fn go_back(&mut self, name: &str) -> Next<S> {
        let head = self.head();
        let past = head.snapshot(name).map(|snapshot| snapshot.checkpoint);
        let (Some(past), Some(newest)) = (past, head.checkpoint) else {
            return Err(OpenError::NoSnapshot {
                name: name.to_owned(),
            });
        };
        let going = GoingBack {
            newest,
            past,
            read: None,
            attempts: Attempts::default(),
        };
        Ok(self.ask_for_front(going))
    }

    fn ask_for_front(&mut self, going: GoingBack) -> Ask<S> {
        let wanted = if going.read.is_some() {
            going.past
        } else {
            going.newest
        };
        let parts = WantedParts {
            parts: vec![front_part(self.lineage(), &wanted)],
            fresh: going.attempts.fresh(),
        };
        self.step = Step::GoBack { going };
        Ask::Get(parts)
    }

    pub(super) fn gone_back(&mut self, mut going: GoingBack, got: Option<Bytes>) -> Next<S> {
        let wanted = if going.read.is_some() {
            going.past
        } else {
            going.newest
        };
        let front = match open_front(self.lineage(), &wanted, got) {
            Ok(front) => front,
            Err(why) => {
                going.attempts.again(why)?;
                return Ok(self.ask_for_front(going));
            }
        };
        let Some(newest) = going.read.take() else {
            going.read = Some(front);
            going.attempts = Attempts::default();
            return Ok(self.ask_for_front(going));
        };
        let mut objects = newest
            .objects
            .back_to(&front.objects, newest.header.number + 1)
            .ok_or_else(|| {
                let name = going.past.name();
                OpenError::ObjectDamaged {
                    key: name.key(self.lineage().home(name.seq)),
                    flaw: Flaw::Fields,
                }
            })?;
        // It was referred to as the newest, too.
        objects.release(going.past.seq, 1);
        self.found.objects = objects;
        self.found.durable_seq = newest.header.journal_seq;
        self.found.data_seq = newest.header.data_seq;
        self.found.leaves = front.leaves;
        self.load_leaves()
    }

    /// Everything that stands in the bucket lies before the moment that begins now. Makes the checkpoint that says so.
    pub(super) fn turn(&mut self) -> Ask<S> {
        let (head, sealer) = (self.head(), &self.options.sealer);
        let Some(newest) = head.checkpoint else {
            unreachable!("there is a snapshot")
        };
        let (number, seq, epoch) = (newest.number + 1, self.found.highest.next(), head.epoch);
        let leaves = self.found.leaves.clone();
        let mut objects = self.found.objects.clone();
        objects.bury(number);
        let bytes = Checkpoint::front_bytes(leaves.len(), objects.iter().count() + 1) + 4;
        objects.add(
            seq,
            ObjectFacts {
                role: Role::Checkpoint,
                epoch,
                bytes,
                blocks: 1,
                live: 1,
                born: number,
                dead: 0,
            },
        );
        let checkpoint = Checkpoint {
            header: CheckpointHeader {
                disk: sealer.disk(),
                epoch,
                seq,
                number,
                data_seq: self.found.highest,
                journal_seq: self.found.durable_seq,
                salt: self.options.salt,
            },
            leaves,
            objects,
        };
        let (body, reference) = checkpoint.encode(sealer, &[]);
        self.found.objects = checkpoint.objects;
        self.found.data_seq = self.found.highest;
        self.found.highest = seq;
        self.put_turn(reference, body)
    }

    fn put_turn(&mut self, reference: CheckpointRef, body: Bytes) -> Ask<S> {
        let name = reference.name();
        self.step = Step::Turn {
            reference,
            body: body.clone(),
        };
        Ask::Put { name, body }
    }

    pub(super) fn turned(&mut self, reference: CheckpointRef, body: Bytes, outcome: PutOutcome) -> Next<S> {
        match outcome {
            PutOutcome::Stored => {
                self.found.turned_back = Some(reference);
                Ok(self.begin_stream())
            }
            PutOutcome::Unknown => Ok(self.put_turn(reference, body)),
            PutOutcome::Taken => Err(OpenError::Twin),
        }
    }

    /// HEAD, as far as the rollback changes it.
    pub(super) fn turn_head(&self, head: &mut Head) {
        if let Some(reference) = self.found.turned_back {
            head.checkpoint = Some(reference);
        }
    }
}
