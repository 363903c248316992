//! PURE. Which objects a disk has, and how much of each is still needed.

use std::collections::BTreeMap;

use crate::fields::{Fields, Sink};
use crate::{DiskId, Epoch, ObjectSeq};

/// Bytes of an object's row in a checkpoint.
pub(crate) const ROW_BYTES: usize = 56;

/// What an object is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Role {
    /// First-hand writes, `d/`.
    Data = 1,
    /// Rewritten ones, `g/`.
    Gc = 2,
    /// A checkpoint, `c/`.
    Checkpoint = 3,
}

impl Role {
    fn of(number: u8) -> Option<Self> {
        [Self::Data, Self::Gc, Self::Checkpoint]
            .into_iter()
            .find(|role| *role as u8 == number)
    }

    /// Returns the folder of such objects.
    #[must_use]
    pub fn folder(self) -> char {
        match self {
            Self::Data => 'd',
            Self::Gc => 'g',
            Self::Checkpoint => 'c',
        }
    }
}

/// An object's name below its disk's prefix: `d/<seq>-<epoch>`, 16 and 8 hexadecimal digits. Two writers never share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// What it is for.
    pub role: Role,
    /// Its number.
    pub seq: ObjectSeq,
    /// Who wrote it.
    pub epoch: Epoch,
}

impl ObjectName {
    /// Returns the key, below `disk/`.
    #[must_use]
    pub fn key(&self, disk: DiskId) -> String {
        format!(
            "{}{:016x}-{:08x}",
            Self::prefix(disk, self.role),
            self.seq.0,
            self.epoch.0
        )
    }

    /// Returns what the keys of a role begin with.
    #[must_use]
    pub fn prefix(disk: DiskId, role: Role) -> String {
        format!("disk/{disk}/{}/", role.folder())
    }

    /// Reads the part of a key after [`Self::prefix`].
    #[must_use]
    pub fn parse(role: Role, rest: &str) -> Option<Self> {
        let (seq, epoch) = rest.split_once('-')?;
        let digits = |text: &str, len: usize| {
            let lower = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            (text.len() == len && lower).then(|| u64::from_str_radix(text, 16).ok())?
        };
        Some(Self {
            role,
            seq: ObjectSeq(digits(seq, 16)?),
            epoch: Epoch(u32::try_from(digits(epoch, 8)?).ok()?),
        })
    }
}

/// Returns the key of a disk's HEAD.
#[must_use]
pub fn head_key(disk: DiskId) -> String {
    format!("disk/{disk}/HEAD")
}

/// What is known of an object.
///
/// `born` and `dead` are numbers of checkpoints: the first that refers to it and the first that no longer does. A snapshot
/// keeps the map of one checkpoint, so it needs the object exactly when that one's number is in `born..dead`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectFacts {
    /// What it is for.
    pub role: Role,
    /// Who wrote it.
    pub epoch: Epoch,
    /// Its size.
    pub bytes: u64,
    /// Blocks with data; leaves, of a checkpoint.
    pub blocks: u64,
    /// Those that the map still refers to.
    pub live: u64,
    /// First checkpoint that refers to it.
    pub born: u64,
    /// First checkpoint that does not; 0 as long as there is none.
    pub dead: u64,
}

/// Every object that may have to be read or deleted one day.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Objects {
    rows: BTreeMap<ObjectSeq, ObjectFacts>,
    /// Up to here they are other disks', and not ours to delete or rewrite.
    inherited: ObjectSeq,
}

impl Objects {
    /// Says that objects up to `last` are other disks'.
    pub fn inherit(&mut self, last: ObjectSeq) {
        self.inherited = last;
    }

    /// Returns our own objects, by seq.
    pub fn own(&self) -> impl Iterator<Item = (ObjectSeq, &ObjectFacts)> + '_ {
        self.rows
            .range(self.inherited.next()..)
            .map(|(seq, facts)| (*seq, facts))
    }

    /// Adds an object.
    ///
    /// # Panics
    /// When its seq is taken.
    pub fn add(&mut self, seq: ObjectSeq, facts: ObjectFacts) {
        let before = self.rows.insert(seq, facts);
        assert!(before.is_none(), "object {seq} twice: {before:?}, {facts:?}");
    }

    /// Returns an object's facts.
    #[must_use]
    pub fn get(&self, seq: ObjectSeq) -> Option<&ObjectFacts> {
        self.rows.get(&seq)
    }

    /// Returns an object's name.
    #[must_use]
    pub fn name(&self, seq: ObjectSeq) -> Option<ObjectName> {
        self.rows.get(&seq).map(|facts| ObjectName {
            role: facts.role,
            seq,
            epoch: facts.epoch,
        })
    }

    /// Counts blocks that the map no longer refers to.
    ///
    /// # Panics
    /// When it referred to fewer.
    pub fn release(&mut self, seq: ObjectSeq, blocks: u64) {
        let Some(facts) = self.rows.get_mut(&seq) else {
            panic!("{blocks} blocks of object {seq}, which is not there")
        };
        assert!(facts.live >= blocks, "{blocks} blocks released of {facts:?}");
        facts.live -= blocks;
    }

    /// Counts blocks that the map now refers to.
    ///
    /// # Panics
    /// When the object is not there.
    pub fn retain(&mut self, seq: ObjectSeq, blocks: u64) {
        let Some(facts) = self.rows.get_mut(&seq) else {
            panic!("{blocks} blocks of object {seq}, which is not there")
        };
        facts.live += blocks;
        assert!(facts.live <= facts.blocks, "{blocks} blocks retained: {facts:?}");
    }

    /// Marks what the map no longer refers to as dead from checkpoint `number` on. What is another disk's is forgotten the time
    /// after: kept moments have tables of their own, and it is not deleted from here.
    pub fn bury(&mut self, number: u64) {
        let inherited = self.inherited;
        self.rows.retain(|seq, facts| *seq > inherited || facts.dead == 0);
        for facts in self.rows.values_mut() {
            if facts.live == 0 && facts.dead == 0 && facts.born <= number {
                facts.dead = number;
            }
        }
    }

    /// Returns what died at `number` or before and no snapshot needs, `snapshots` being the numbers of their checkpoints.
    #[must_use]
    pub fn deletable(&self, number: u64, snapshots: &[u64]) -> Vec<ObjectName> {
        self.own()
            .filter(|(_, facts)| {
                let needed = snapshots.iter().any(|at| (facts.born..facts.dead).contains(at));
                facts.dead != 0 && facts.dead <= number && !needed
            })
            .filter_map(|(seq, _)| self.name(seq))
            .collect()
    }

    /// Says whether one of the checkpoints with the numbers `at` refers to an object.
    #[must_use]
    pub fn is_needed_at(&self, seq: ObjectSeq, at: &[u64]) -> bool {
        self.rows.get(&seq).is_some_and(|facts| {
            let end = if facts.dead == 0 { u64::MAX } else { facts.dead };
            at.iter().any(|number| (facts.born..end).contains(number))
        })
    }

    /// Returns the table of checkpoint `number`, which goes back to what `past` was the table of; none when an object of that
    /// time is gone.
    ///
    /// What lived then lives again, in as many blocks, and what came after is dead. An object that died between and lives
    /// again counts as needed all the time: moments between keep it for nothing, and no moment loses it.
    #[must_use]
    pub fn back_to(&self, past: &Self, number: u64) -> Option<Self> {
        let mut rows = self.rows.clone();
        for (seq, facts) in &mut rows {
            facts.live = past.rows.get(seq).map_or(0, |then| then.live);
            match (facts.live, facts.dead) {
                (0, 0) => facts.dead = number,
                (0, _) => {}
                _ => facts.dead = 0,
            }
        }
        for (seq, then) in past.rows.iter().filter(|(_, then)| then.live > 0) {
            if *seq <= self.inherited {
                // Forgotten since, and still there.
                rows.entry(*seq).or_insert(*then).dead = 0;
            } else if !rows.contains_key(seq) {
                return None;
            }
        }
        let inherited = self.inherited;
        rows.retain(|seq, facts| *seq > inherited || facts.live > 0);
        Some(Self { rows, inherited })
    }

    /// Forgets an object that was deleted.
    pub fn remove(&mut self, seq: ObjectSeq) {
        self.rows.remove(&seq);
    }

    /// Returns all objects, by seq.
    pub fn iter(&self) -> impl Iterator<Item = (ObjectSeq, &ObjectFacts)> + '_ {
        self.rows.iter().map(|(seq, facts)| (*seq, facts))
    }

    /// Returns the highest seq in use, 0 for none.
    #[must_use]
    pub fn last(&self) -> ObjectSeq {
        self.rows.keys().next_back().copied().unwrap_or_default()
    }

    /// The rows: seq (8), epoch (4), role (1), zeros (3), bytes (8), blocks (8), live (8), born (8), dead (8).
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.rows.len() * ROW_BYTES);
        for (seq, facts) in &self.rows {
            out.put_u64(seq.0);
            out.put_u32(facts.epoch.0);
            out.put_u8(facts.role as u8);
            out.put(&[0; 3]);
            out.put_u64(facts.bytes);
            out.put_u64(facts.blocks);
            out.put_u64(facts.live);
            out.put_u64(facts.born);
            out.put_u64(facts.dead);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::new(bytes);
        let mut objects = Self::default();
        while !fields.is_empty() {
            let seq = ObjectSeq(fields.u64()?);
            let epoch = Epoch(fields.u32()?);
            let role = Role::of(fields.u8()?)?;
            fields.bytes(3)?;
            let facts = ObjectFacts {
                role,
                epoch,
                bytes: fields.u64()?,
                blocks: fields.u64()?,
                live: fields.u64()?,
                born: fields.u64()?,
                dead: fields.u64()?,
            };
            if facts.live > facts.blocks || (objects.last() >= seq) {
                return None;
            }
            objects.rows.insert(seq, facts);
        }
        Some(objects)
    }
}
