//! PURE. The steps of an opening, in order.

use std::sync::Arc;

use bytes::Bytes;

use super::load::{Attempts, highest};
use super::rollback::GoingBack;
use super::{
    Answer, Ask, JournalState, LoadLeaves, OpenError, Opening, WantedPart, WantedParts, front_part,
    judge_journal, open_front,
};
use crate::engine::{GotHead, HeadPut, Mutant};
use crate::extent_map::{ExtentMap, PageSeal, PageStore};
use crate::head::{CheckpointRef, Head};
use crate::lineage::{Lineage, NoKey};
use crate::objects::{ObjectName, Role};
use crate::{Flaw, Layout, PREFIX_BYTES, Scan, ScanStep, Superblock, newest_superblock};

/// Objects' fronts asked for at a time.
const FRONTS_AT_ONCE: usize = 64;
/// How often HEAD is looked at again that does not open, before it is called damaged.
pub(crate) const HEAD_FLAWS_MAX: u32 = 3;

#[derive(Debug)]
pub(super) enum Step {
    Superblocks,
    FirstLook,
    /// The claim is being put; or looked for, when nobody knows what came of it.
    Claim,
    ClaimLook,
    Wait,
    Checkpoint {
        reference: CheckpointRef,
        attempts: Attempts,
    },
    /// A snapshot is being gone back to.
    GoBack {
        going: GoingBack,
    },
    /// Its checkpoint is being put.
    Turn {
        reference: CheckpointRef,
        body: Bytes,
    },
    Leaves {
        load: LoadLeaves,
    },
    List,
    /// Fronts are being read, of the first of `names`, some of them for the second time.
    Fronts {
        names: Vec<ObjectName>,
        fronts: Vec<Option<Bytes>>,
        attempts: Attempts,
    },
    Scan {
        scan: Box<Scan>,
    },
    SyncRing,
    Adopt,
    Stream,
    StreamLook,
    Begin {
        superblock: Superblock,
    },
    Over,
}

pub(super) type Next<S> = Result<Ask<S>, OpenError>;

impl<S: PageStore> Opening<S> {
    pub(super) fn proceed(&mut self, answer: Answer) -> Next<S> {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Superblocks, Answer::Superblocks(pages)) => self.superblocks(pages),
            (step, Answer::Head(GotHead::Unknown)) => {
                self.step = step;
                Ok(Ask::GetHead)
            }
            (step, Answer::Head(GotHead::Found { bytes, .. }))
                if self.head_flaws < HEAD_FLAWS_MAX
                    && Head::decode(&self.options.sealer, &bytes).is_err() =>
            {
                // The way from the store may be at fault.
                self.head_flaws += 1;
                self.step = step;
                Ok(Ask::GetHead)
            }
            (Step::FirstLook, Answer::Head(got)) => self.first_look(got),
            (Step::Claim, Answer::HeadPut(outcome)) => self.swapped(outcome, Step::ClaimLook),
            (Step::ClaimLook, Answer::Head(got)) => self.look(got, Step::Claim),
            (Step::Wait, Answer::Done) => self.load(),
            (Step::Checkpoint { reference, attempts }, Answer::Got(got)) => {
                self.checkpoint(reference, attempts, got.into_iter().next().flatten())
            }
            (Step::GoBack { going }, Answer::Got(got)) => {
                self.gone_back(going, got.into_iter().next().flatten())
            }
            (Step::Turn { reference, body }, Answer::Put(outcome)) => self.turned(reference, body, outcome),
            (Step::Leaves { load }, Answer::Got(got)) => self.leaves(load, got),
            (Step::List, Answer::Listed(names)) => self.listed(names),
            (
                Step::Fronts {
                    names,
                    fronts,
                    attempts,
                },
                Answer::Got(got),
            ) => self.fronts(names, fronts, attempts, got),
            (Step::Scan { scan }, Answer::Ring(pages)) => self.scanned(*scan, pages),
            (Step::SyncRing, Answer::Done) => Ok(self.adopt()),
            (Step::Adopt, Answer::Done) => Ok(self.begin_stream()),
            (Step::Stream, Answer::HeadPut(outcome)) => self.swapped(outcome, Step::StreamLook),
            (Step::StreamLook, Answer::Head(got)) => self.look(got, Step::Stream),
            (Step::Begin { superblock }, Answer::Done) => Ok(self.ready(superblock)),
            (step, answer) => panic!("{answer:?} while {step:?}"),
        }
    }

    fn superblocks(&mut self, pages: Option<[Vec<u8>; 2]>) -> Next<S> {
        let newest = match &pages {
            Some([first, second]) => newest_superblock([first, second]),
            None => Err(Flaw::Cut),
        };
        // A slice is made of zeros; when it is formatted, one page stays so until the other is durable.
        let is_new = pages
            .iter()
            .flatten()
            .any(|page| page.iter().all(|byte| *byte == 0));
        match newest {
            Ok(superblock) if superblock.disk != self.options.sealer.disk() => {
                return Err(OpenError::ForeignJournal);
            }
            Ok(superblock) => self.found.superblock = Some(superblock),
            Err(flaw @ Flaw::Version { .. }) => return Err(OpenError::Journal { flaw }),
            Err(_) if is_new || self.options.discard_damaged_journal => {}
            Err(_) => return Err(OpenError::SuperblockDamaged),
        }
        self.step = Step::FirstLook;
        Ok(Ask::GetHead)
    }

    fn first_look(&mut self, got: GotHead) -> Next<S> {
        let (head, etag) = self.read_head(got)?;
        if head.deleted {
            return Err(OpenError::Deleted);
        }
        let lineage = Lineage::new(&head, Arc::clone(&self.options.sealer), &self.options.bases);
        self.lineage = Some(lineage.map_err(|NoKey { disk }| OpenError::NoKey { disk })?);
        let goes_back = self.options.roll_back_to.is_some();
        if let Some(name) = self
            .options
            .roll_back_to
            .as_ref()
            .filter(|name| head.snapshot(name).is_none())
        {
            return Err(OpenError::NoSnapshot { name: name.clone() });
        }
        let judged = self
            .found
            .superblock
            .as_ref()
            .map(|found| judge_journal(found, &head));
        let continues = match judged {
            Some(JournalState::Continues) => true,
            Some(JournalState::Unused) | None => false,
            Some(JournalState::Stale { journal, disk }) => {
                if !self.options.discard_stale_journal && !goes_back {
                    return Err(OpenError::StaleJournal { journal, disk });
                }
                false
            }
        };
        self.found.replays = continues && !goes_back;
        self.found.somebody_else = head.stream().is_some() && !continues;
        let mut wanted = head.clone();
        wanted.revision += 1;
        wanted.epoch = head.epoch.next();
        wanted.owner = match &self.found.superblock {
            Some(superblock) if self.found.replays => superblock.journal,
            Some(_) | None => self.options.new_journal,
        };
        self.found.etag = Some(etag);
        self.found.head = Some(head);
        self.found.wanted = Some(wanted);
        self.step = Step::Claim;
        Ok(self.swap())
    }

    fn read_head(&self, got: GotHead) -> Result<(Head, crate::engine::Etag), OpenError> {
        let (bytes, etag) = match got {
            GotHead::Found { bytes, etag } => (bytes, etag),
            GotHead::Missing | GotHead::Unknown => return Err(OpenError::HeadMissing),
        };
        match Head::decode(&self.options.sealer, &bytes) {
            Ok(head) => Ok((head, etag)),
            Err(flaw) => Err(OpenError::HeadDamaged { flaw }),
        }
    }

    pub(super) fn swap(&mut self) -> Ask<S> {
        let (Some(wanted), Some(expected)) = (&self.found.wanted, &self.found.etag) else {
            unreachable!("a swap follows a look")
        };
        self.found.asked = self.found.now;
        Ask::PutHead {
            expected: expected.clone(),
            body: wanted.encode(&self.options.sealer, self.options.salt).into(),
        }
    }

    fn swapped(&mut self, outcome: HeadPut, look: Step) -> Next<S> {
        match outcome {
            HeadPut::Stored(etag) => {
                let claims = matches!(look, Step::ClaimLook);
                self.swap_done(etag, claims)
            }
            HeadPut::Stale | HeadPut::Unknown => {
                self.step = look;
                Ok(Ask::GetHead)
            }
        }
    }

    /// Finds out what came of a swap that nobody answered, or that found another version.
    fn look(&mut self, got: GotHead, again: Step) -> Next<S> {
        let (found, etag) = self.read_head(got)?;
        let claims = matches!(again, Step::Claim);
        if Some(&found) == self.found.wanted.as_ref() {
            return self.swap_done(etag, claims);
        }
        if Some(&found) == self.found.head.as_ref() {
            self.step = again;
            return Ok(self.swap());
        }
        Err(OpenError::Claimed { by: found.epoch })
    }

    fn swap_done(&mut self, etag: crate::engine::Etag, claims: bool) -> Next<S> {
        self.found.head = self.found.wanted.take();
        self.found.etag = Some(etag);
        if !claims {
            let superblock = self.first_superblock();
            self.step = Step::Begin { superblock };
            return Ok(Ask::WriteSuperblock(superblock));
        }
        if self.found.somebody_else && !self.options.force {
            self.step = Step::Wait;
            // The former owner may have looked at HEAD just before.
            return Ok(Ask::WaitUntil(
                self.found.now.plus(self.options.config.authority_us).plus(1),
            ));
        }
        self.load()
    }

    pub(super) fn head(&self) -> &Head {
        match &self.found.head {
            Some(head) => head,
            None => unreachable!("HEAD was read in the second step"),
        }
    }

    fn load(&mut self) -> Next<S> {
        if let Some(name) = self.options.roll_back_to.clone() {
            return self.go_back(&name);
        }
        match self.head().checkpoint {
            Some(reference) => Ok(self.ask_for_checkpoint(reference, Attempts::default())),
            None => self.load_leaves(),
        }
    }

    fn ask_for_checkpoint(&mut self, reference: CheckpointRef, attempts: Attempts) -> Ask<S> {
        let parts = WantedParts {
            parts: vec![front_part(self.lineage(), &reference)],
            fresh: attempts.fresh(),
        };
        self.step = Step::Checkpoint { reference, attempts };
        Ask::Get(parts)
    }

    fn key(&self, name: ObjectName) -> String {
        name.key(self.options.sealer.disk())
    }

    fn damaged(&self, name: ObjectName, flaw: Flaw) -> OpenError {
        OpenError::ObjectDamaged {
            key: self.key(name),
            flaw,
        }
    }

    fn checkpoint(
        &mut self,
        reference: CheckpointRef,
        mut attempts: Attempts,
        got: Option<Bytes>,
    ) -> Next<S> {
        let checkpoint = match open_front(self.lineage(), &reference, got) {
            Ok(checkpoint) => checkpoint,
            Err(why) => {
                attempts.again(why)?;
                return Ok(self.ask_for_checkpoint(reference, attempts));
            }
        };
        self.found.data_seq = checkpoint.header.data_seq;
        self.found.durable_seq = checkpoint.header.journal_seq;
        self.found.objects = checkpoint.objects;
        self.found.leaves = checkpoint.leaves;
        self.load_leaves()
    }

    pub(super) fn load_leaves(&mut self) -> Next<S> {
        let runs_max = self.options.config.map_runs_max;
        let pages = self.options.pages.take();
        let (sealer, salt, epoch) = (&self.options.sealer, self.options.salt, self.head().epoch);
        let seal = PageSeal::new(Arc::clone(sealer), salt, epoch);
        self.map = pages.map(|pages| ExtentMap::new(pages, seal, runs_max));
        let mut load = LoadLeaves::new(self.found.leaves.iter().map(|(leaf, place)| (*leaf, *place)));
        let wanted = load.next(self.lineage());
        Ok(self.leaves_step(load, wanted))
    }

    fn leaves_step(&mut self, load: LoadLeaves, wanted: Option<WantedParts>) -> Ask<S> {
        if let Some(parts) = wanted {
            self.step = Step::Leaves { load };
            return Ask::Get(parts);
        }
        self.step = Step::List;
        Ask::ListData {
            after: self.found.data_seq,
        }
    }

    fn leaves(&mut self, mut load: LoadLeaves, got: Vec<Option<Bytes>>) -> Next<S> {
        let (Some(lineage), Some(map)) = (&self.lineage, &mut self.map) else {
            unreachable!("both are there before leaves are read")
        };
        let wanted = load.got(lineage, map, got)?;
        Ok(self.leaves_step(load, wanted))
    }

    fn listed(&mut self, mut names: Vec<ObjectName>) -> Next<S> {
        names.sort();
        let known = self.found.objects.last().max(self.found.data_seq);
        self.found.highest = highest(&names).max(known).max(self.lineage().inherited());
        if self.options.roll_back_to.is_some() {
            return Ok(self.turn());
        }
        let (head, after) = (self.head(), self.found.data_seq);
        let any = self.is(Mutant::LateObjectsCount);
        names.retain(|name| name.seq > after && (any || head.counts(name.seq, name.epoch)));
        self.next_fronts(names, Attempts::default())
    }

    fn next_fronts(&mut self, names: Vec<ObjectName>, attempts: Attempts) -> Next<S> {
        if names.is_empty() {
            return self.objects_end();
        }
        let first = names.iter().take(FRONTS_AT_ONCE).copied();
        let parts = first.map(|name| self.part(name, PREFIX_BYTES)).collect();
        self.step = Step::Fronts {
            names,
            fronts: Vec::new(),
            attempts,
        };
        let fresh = attempts.fresh();
        Ok(Ask::Get(WantedParts { parts, fresh }))
    }

    /// The first bytes of an object of ours.
    fn part(&self, name: ObjectName, bytes: u64) -> WantedPart {
        WantedPart {
            disk: self.options.sealer.disk(),
            name,
            range: 0..bytes,
        }
    }

    fn fronts(
        &mut self,
        names: Vec<ObjectName>,
        fronts: Vec<Option<Bytes>>,
        mut attempts: Attempts,
        got: Vec<Option<Bytes>>,
    ) -> Next<S> {
        let fronts = if fronts.is_empty() {
            got
        } else {
            let mut longer = got.into_iter();
            let long = |front: Option<Bytes>| match front {
                Some(front) if is_short(&front) => longer.next().flatten(),
                other => other,
            };
            fronts.into_iter().map(long).collect()
        };
        let longer: Vec<_> = names
            .iter()
            .zip(&fronts)
            .filter_map(|(name, front)| {
                let front = front.as_ref().filter(|front| is_short(front))?;
                Some(self.part(*name, Layout::front_bytes(front).ok()?))
            })
            .collect();
        if !longer.is_empty() {
            self.step = Step::Fronts {
                names,
                fronts,
                attempts,
            };
            let (parts, fresh) = (longer, attempts.fresh());
            return Ok(Ask::Get(WantedParts { parts, fresh }));
        }
        let rest = names[fronts.len()..].to_vec();
        for (done, (name, front)) in names.iter().zip(fronts).enumerate() {
            match self.take_front(*name, front) {
                Ok(true) => {}
                // The first gap: what lies behind it never counts.
                Ok(false) => return self.objects_end(),
                Err(why) => {
                    if done > 0 {
                        attempts = Attempts::default();
                    }
                    attempts.again(why)?;
                    return self.next_fronts(names[done..].to_vec(), attempts);
                }
            }
        }
        self.next_fronts(rest, Attempts::default())
    }

    /// Lets an object count, unless one before it is missing.
    fn take_front(&mut self, name: ObjectName, front: Option<Bytes>) -> Result<bool, OpenError> {
        let front = front.ok_or_else(|| OpenError::ObjectMissing { key: self.key(name) })?;
        let layout = Layout::open(&self.options.sealer, &front).map_err(|flaw| self.damaged(name, flaw))?;
        let header = &layout.header;
        if header.seq != name.seq || header.epoch != name.epoch {
            return Err(self.damaged(name, Flaw::Elsewhere));
        }
        if header.previous != self.found.data_seq {
            return Ok(false);
        }
        let born = self
            .head()
            .checkpoint
            .map_or(1, |checkpoint| checkpoint.number + 1);
        let Some(map) = &mut self.map else {
            unreachable!("the map is made before objects are read")
        };
        crate::engine::apply_object(&layout, born, map, &mut self.found.objects)
            .map_err(|lost| OpenError::Map { leaf: lost.leaf })?;
        self.found.data_seq = name.seq;
        self.found.durable_seq = header.journal_seq;
        self.found.replayed_objects += 1;
        Ok(true)
    }

    /// The objects that count end here. If a former owner knew of more, or the journal begins later, some are lost.
    fn objects_end(&mut self) -> Next<S> {
        let end = self.found.data_seq;
        if let Some(stream) = self.head().streams.iter().find(|stream| stream.after > end) {
            let name = ObjectName {
                role: Role::Data,
                seq: stream.after,
                epoch: stream.epoch,
            };
            return Err(OpenError::ObjectMissing { key: self.key(name) });
        }
        let Some(superblock) = self.found.superblock.filter(|_| self.found.replays) else {
            return Ok(self.adopt());
        };
        if superblock.tail_seq > self.found.durable_seq.next() {
            return Err(OpenError::Gap {
                stored: self.found.durable_seq,
                journal: superblock.tail_seq,
            });
        }
        let mut scan = Scan::new(&superblock);
        if self.is(Mutant::TrustTail) {
            scan = scan.trusting();
        }
        let step = scan.begin();
        self.scan_step(scan, step)
    }

    fn scanned(&mut self, mut scan: Scan, pages: Option<Vec<u8>>) -> Next<S> {
        let sealer = Arc::clone(&self.options.sealer);
        let mut step = scan.read(&sealer, pages.as_deref());
        if let ScanStep::Record(record) = step {
            if record.header.seq > self.found.durable_seq {
                self.found.records.push(record);
            }
            step = scan.begin();
        }
        self.scan_step(scan, step)
    }

    fn scan_step(&mut self, scan: Scan, step: ScanStep) -> Next<S> {
        match step {
            ScanStep::Read { position, pages } => {
                self.step = Step::Scan { scan: Box::new(scan) };
                Ok(Ask::ReadRing { position, pages })
            }
            ScanStep::Record(_) => unreachable!("a scan begins with a read"),
            ScanStep::End(end) => {
                // Records that the store has are not missed, those behind them are.
                let lost = end.known_durable > self.found.durable_seq;
                if end.damaged && lost && !self.options.discard_damaged_journal {
                    return Err(OpenError::JournalDamaged { seq: end.seq });
                }
                self.found.ring_end = Some(end);
                // What a killed process wrote may still be in a cache: nothing is built upon it before it is durable.
                self.step = Step::SyncRing;
                Ok(Ask::SyncRing)
            }
        }
    }
}

/// Whether more of an object must be read to open its front.
fn is_short(front: &[u8]) -> bool {
    Layout::front_bytes(front).is_ok_and(|bytes| bytes > front.len() as u64)
}
