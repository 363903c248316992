//! PURE. The steps of an opening, in order.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::{Answer, Ask, JournalState, OpenError, Opening, judge_journal};
use crate::checkpoint::Checkpoint;
use crate::engine::{GotHead, HeadPut, Mutant};
use crate::extent_map::{ExtentMap, PageStore};
use crate::head::Head;
use crate::objects::{ObjectName, Role};
use crate::{Flaw, Layout, LeafRef, ObjectSeq, PREFIX_BYTES, Scan, ScanStep, Superblock, newest_superblock};

/// Objects' fronts asked for at a time.
const FRONTS_AT_ONCE: usize = 64;

#[derive(Debug)]
pub(super) enum Step {
    Superblocks,
    FirstLook,
    /// The claim is being put; or looked for, when nobody knows what came of it.
    Claim,
    ClaimLook,
    Wait,
    Checkpoint {
        name: ObjectName,
    },
    Leaves {
        wanted: Vec<(u32, LeafRef)>,
    },
    List,
    /// Fronts are being read, of the first of `names`, some of them for the second time.
    Fronts {
        names: Vec<ObjectName>,
        fronts: Vec<Option<Bytes>>,
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

type Next<S> = Result<Ask<S>, OpenError>;

impl<S: PageStore> Opening<S> {
    pub(super) fn proceed(&mut self, answer: Answer) -> Next<S> {
        match (std::mem::replace(&mut self.step, Step::Over), answer) {
            (Step::Superblocks, Answer::Superblocks(pages)) => self.superblocks(pages),
            (step, Answer::Head(GotHead::Unknown)) => {
                self.step = step;
                Ok(Ask::GetHead)
            }
            (Step::FirstLook, Answer::Head(got)) => self.first_look(got),
            (Step::Claim, Answer::HeadPut(outcome)) => self.swapped(outcome, Step::ClaimLook),
            (Step::ClaimLook, Answer::Head(got)) => self.look(got, Step::Claim),
            (Step::Wait, Answer::Done) => self.load(),
            (Step::Checkpoint { name }, Answer::Got(got)) => self.checkpoint(name, got),
            (Step::Leaves { wanted }, Answer::Got(got)) => self.leaves(&wanted, got),
            (Step::List, Answer::Listed(names)) => self.listed(names),
            (Step::Fronts { names, fronts }, Answer::Got(got)) => self.fronts(names, fronts, got),
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
        if let Some([first, second]) = &pages {
            match newest_superblock([first, second]) {
                Ok(superblock) if superblock.disk != self.options.sealer.disk() => {
                    return Err(OpenError::ForeignJournal);
                }
                Ok(superblock) => self.found.superblock = Some(superblock),
                Err(flaw @ Flaw::Version { .. }) => return Err(OpenError::Journal { flaw }),
                // Empty or beyond repair: what it held is lost, and S3 has the rest.
                Err(_) => {}
            }
        }
        self.step = Step::FirstLook;
        Ok(Ask::GetHead)
    }

    fn first_look(&mut self, got: GotHead) -> Next<S> {
        let (head, etag) = self.read_head(got)?;
        self.found.replays = match self
            .found
            .superblock
            .as_ref()
            .map(|found| judge_journal(found, &head))
        {
            Some(JournalState::Continues) => true,
            Some(JournalState::Unused) | None => false,
            Some(JournalState::Stale { journal, disk }) => {
                if !self.options.discard_stale_journal {
                    return Err(OpenError::StaleJournal { journal, disk });
                }
                false
            }
        };
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
        let former = std::mem::replace(&mut self.found.head, self.found.wanted.take());
        self.found.etag = Some(etag);
        if !claims {
            let superblock = self.first_superblock();
            self.step = Step::Begin { superblock };
            return Ok(Ask::WriteSuperblock(superblock));
        }
        let somebody_else = former.is_some_and(|head| head.stream().is_some()) && !self.found.replays;
        if somebody_else && !self.options.force {
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
        let Some(reference) = self.head().checkpoint else {
            return self.load_leaves(Vec::new());
        };
        let name = ObjectName {
            role: Role::Checkpoint,
            seq: reference.seq,
            epoch: reference.epoch,
        };
        self.step = Step::Checkpoint { name };
        Ok(Ask::Get(vec![(name, 0..reference.front_bytes)]))
    }

    fn key(&self, name: ObjectName) -> String {
        name.key(self.options.sealer.disk())
    }

    fn only(&self, name: ObjectName, got: Option<Bytes>) -> Result<Bytes, OpenError> {
        got.ok_or_else(|| OpenError::ObjectMissing { key: self.key(name) })
    }

    fn damaged(&self, name: ObjectName, flaw: Flaw) -> OpenError {
        OpenError::ObjectDamaged {
            key: self.key(name),
            flaw,
        }
    }

    fn checkpoint(&mut self, name: ObjectName, got: Vec<Option<Bytes>>) -> Next<S> {
        let bytes = self.only(name, got.into_iter().next().flatten())?;
        let checkpoint =
            Checkpoint::open(&self.options.sealer, &bytes).map_err(|flaw| self.damaged(name, flaw))?;
        if self
            .head()
            .checkpoint
            .is_none_or(|reference| reference.number != checkpoint.header.number)
        {
            return Err(self.damaged(name, Flaw::Elsewhere));
        }
        self.found.data_seq = checkpoint.header.data_seq;
        self.found.durable_seq = checkpoint.header.journal_seq;
        self.found.objects = checkpoint.objects;
        self.found.leaves = checkpoint.leaves;
        let wanted = self
            .found
            .leaves
            .iter()
            .map(|(leaf, place)| (*leaf, *place))
            .collect();
        self.load_leaves(wanted)
    }

    fn load_leaves(&mut self, wanted: Vec<(u32, LeafRef)>) -> Next<S> {
        let runs_max = self.options.config.map_runs_max;
        let ranges: Vec<(ObjectName, Range<u64>)> = wanted
            .iter()
            .map(|(_, place)| {
                let name = ObjectName {
                    role: Role::Checkpoint,
                    seq: place.object,
                    epoch: place.epoch,
                };
                (name, place.offset..place.offset + u64::from(place.bytes))
            })
            .collect();
        if self.map.is_none() {
            self.map = self
                .options
                .pages
                .take()
                .map(|pages| ExtentMap::new(pages, runs_max));
        }
        if ranges.is_empty() {
            self.step = Step::List;
            let after = self.found.data_seq;
            return Ok(Ask::ListData { after });
        }
        self.step = Step::Leaves { wanted };
        Ok(Ask::Get(ranges))
    }

    fn leaves(&mut self, wanted: &[(u32, LeafRef)], got: Vec<Option<Bytes>>) -> Next<S> {
        for ((leaf, place), bytes) in wanted.iter().zip(got) {
            let name = ObjectName {
                role: Role::Checkpoint,
                seq: place.object,
                epoch: place.epoch,
            };
            let bytes = self.only(name, bytes)?;
            let opened = Checkpoint::open_leaf(&self.options.sealer, *leaf, place, &bytes);
            let plain = opened.map_err(|flaw| self.damaged(name, flaw))?;
            let installed = self.map_mut().install(*leaf, &plain);
            installed.map_err(|flaw| self.damaged(name, flaw))?;
        }
        self.step = Step::List;
        Ok(Ask::ListData {
            after: self.found.data_seq,
        })
    }

    fn map_mut(&mut self) -> &mut ExtentMap<S> {
        match &mut self.map {
            Some(map) => map,
            None => unreachable!("the map is made before leaves are read"),
        }
    }

    fn listed(&mut self, mut names: Vec<ObjectName>) -> Next<S> {
        names.sort();
        let highest = names.last().map_or(ObjectSeq(0), |name| name.seq);
        self.found.highest = highest.max(self.found.objects.last()).max(self.found.data_seq);
        let (head, after) = (self.head(), self.found.data_seq);
        let any = self.is(Mutant::LateObjectsCount);
        names.retain(|name| name.seq > after && (any || head.counts(name.seq, name.epoch)));
        self.next_fronts(names)
    }

    fn next_fronts(&mut self, names: Vec<ObjectName>) -> Next<S> {
        if names.is_empty() {
            return self.objects_end();
        }
        let asked = names
            .iter()
            .take(FRONTS_AT_ONCE)
            .map(|name| (*name, 0..PREFIX_BYTES))
            .collect();
        self.step = Step::Fronts {
            names,
            fronts: Vec::new(),
        };
        Ok(Ask::Get(asked))
    }

    fn fronts(
        &mut self,
        mut names: Vec<ObjectName>,
        fronts: Vec<Option<Bytes>>,
        got: Vec<Option<Bytes>>,
    ) -> Next<S> {
        let mut fronts = if fronts.is_empty() {
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
                Some((*name, 0..Layout::front_bytes(front).ok()?))
            })
            .collect();
        if !longer.is_empty() {
            self.step = Step::Fronts { names, fronts };
            return Ok(Ask::Get(longer));
        }
        let rest = names.split_off(fronts.len());
        for (name, front) in names.into_iter().zip(fronts.drain(..)) {
            let front = self.only(name, front)?;
            let layout =
                Layout::open(&self.options.sealer, &front).map_err(|flaw| self.damaged(name, flaw))?;
            let header = &layout.header;
            if header.seq != name.seq || header.epoch != name.epoch {
                return Err(self.damaged(name, Flaw::Elsewhere));
            }
            if header.previous != self.found.data_seq {
                // The first gap: what lies behind it never counts.
                return self.objects_end();
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
        }
        self.next_fronts(rest)
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
                if end.damaged && end.seq > self.found.durable_seq {
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
