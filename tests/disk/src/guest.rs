//! The guest: what it asked for, what it was told, and so what must be there.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use log_disk::{BLOCK_BYTES, Durability, Outcome, RequestId};

use crate::stamp::{self, Stamp};

/// The content of every block that is looked at.
pub(crate) type Image = BTreeMap<u64, Stamp>;

/// A change of the disk, in the order in which it was asked for.
#[derive(Debug, Clone)]
struct Op {
    lba: u64,
    blocks: u64,
    stamp: Stamp,
    answered: bool,
    /// What was durable in the journal, as far as the guest knew, when it asked.
    after: usize,
    /// Whether it survived a crash nobody could see: zeros where there were zeros before, or what such zeros cover.
    uncertain: bool,
}

/// What a request waits for.
#[derive(Debug, Clone)]
pub(crate) enum Asked {
    Change {
        op: usize,
        fua: Option<Durability>,
    },
    Read {
        lba: u64,
        blocks: u64,
        after: Vec<Option<usize>>,
    },
    /// A read whose data the game wants for itself.
    Look {
        lba: u64,
    },
    Flush {
        covers: usize,
        class: Durability,
    },
    Grow {
        size_blocks: u64,
    },
    Snapshot {
        name: String,
        from: usize,
    },
    RemoveSnapshot {
        name: String,
    },
}

/// What became of the disk's host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Only the process died.
    Process,
    /// The power went.
    Power,
    /// The slice is gone, or another host has taken over.
    Slice,
}

#[derive(Debug, Default)]
struct State {
    /// What there was before the first change; zeros where nothing is said.
    base: Image,
    ops: Vec<Op>,
    stamps: Stamp,
    asked: BTreeMap<RequestId, Asked>,
    next_request: u64,
    /// Changes that must be there after the power went, and when nothing but the bucket is left.
    local_floor: usize,
    remote_floor: usize,
    looks: BTreeMap<u64, Bytes>,
    size_blocks: u64,
    /// Snapshots: content once it is known; and since when until when it may be from.
    snapshots: BTreeMap<String, Image>,
    new_snapshots: Vec<(String, usize, usize)>,
    /// Snapshots that may or may not be gone.
    doubtful: Vec<String>,
    /// Processes that must not answer any more, or may and nobody listens.
    retired: BTreeMap<String, bool>,
    may_stop: Vec<String>,
    violation: Option<String>,
    /// Requests may fail.
    faulty: bool,
}

/// The guest; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guest(Arc<Mutex<State>>);

impl Guest {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new(size_blocks: u64, faulty: bool) -> Self {
        let guest = Self::default();
        guest.lock().size_blocks = size_blocks;
        guest.lock().faulty = faulty;
        guest
    }

    /// The guest of a fork, the `number`th, which begins as `base`.
    pub(crate) fn of_fork(number: u64, size_blocks: u64, base: Image, faulty: bool) -> Self {
        let guest = Self::new(size_blocks, faulty);
        let mut state = guest.lock();
        state.base = base;
        state.stamps = number << 32;
        drop(state);
        guest
    }

    /// What a snapshot holds, if that is known.
    pub(crate) fn snapshot_image(&self, name: &str) -> Option<Image> {
        self.lock().snapshots.get(name).cloned()
    }

    /// The disk is what it was at a snapshot: nothing that was written since counts.
    pub(crate) fn go_back(&self, then: Image) {
        let mut state = self.lock();
        state.base = then;
        state.ops.clear();
        state.local_floor = 0;
        state.remote_floor = 0;
    }

    /// How many changes must be there after a loss.
    pub(crate) fn floor(&self, loss: Loss, remote_floor: usize) -> usize {
        let state = self.lock();
        match loss {
            Loss::Process => state.answered_floor(),
            Loss::Power => state.local_floor.max(remote_floor),
            Loss::Slice => remote_floor,
        }
    }

    /// How many changes must be there, or be missed aloud, when one thing in the journal is damaged: those that were durable
    /// before something was asked for that is durable itself.
    pub(crate) fn evident_floor(&self) -> usize {
        let state = self.lock();
        let durable = state.ops.iter().take(state.local_floor);
        durable.map(|op| op.after).max().unwrap_or(0)
    }

    /// Draws a number for a request that nobody keeps account of.
    pub(crate) fn untracked(&self) -> RequestId {
        let mut state = self.lock();
        state.next_request += 1;
        RequestId(state.next_request)
    }

    fn ask(state: &mut State, asked: Asked) -> RequestId {
        state.next_request += 1;
        let request = RequestId(state.next_request);
        state.asked.insert(request, asked);
        request
    }

    pub(crate) fn write(&self, lba: u64, blocks: u64, fua: Option<Durability>) -> (RequestId, Bytes) {
        let mut state = self.lock();
        state.stamps += 1;
        let stamp = state.stamps;
        let request = Self::change(&mut state, lba, blocks, stamp, fua);
        (request, stamp::run(lba, blocks, stamp))
    }

    pub(crate) fn zero(&self, lba: u64, blocks: u64, fua: Option<Durability>) -> RequestId {
        Self::change(&mut self.lock(), lba, blocks, 0, fua)
    }

    fn change(state: &mut State, lba: u64, blocks: u64, stamp: Stamp, fua: Option<Durability>) -> RequestId {
        let op = state.ops.len();
        state.ops.push(Op {
            lba,
            blocks,
            stamp,
            answered: false,
            after: state.local_floor,
            uncertain: false,
        });
        Self::ask(state, Asked::Change { op, fua })
    }

    pub(crate) fn read(&self, lba: u64, blocks: u64) -> RequestId {
        let mut state = self.lock();
        let last_answered = |lba| state.ops.iter().rposition(|op| op.answered && op.covers(lba));
        let after = (lba..lba + blocks).map(last_answered).collect();
        Self::ask(&mut state, Asked::Read { lba, blocks, after })
    }

    pub(crate) fn look(&self, lba: u64) -> RequestId {
        Self::ask(&mut self.lock(), Asked::Look { lba })
    }

    pub(crate) fn flush(&self, class: Durability) -> RequestId {
        let mut state = self.lock();
        let covers = state.answered_floor();
        Self::ask(&mut state, Asked::Flush { covers, class })
    }

    pub(crate) fn grow(&self, more: u64) -> (RequestId, u64) {
        let mut state = self.lock();
        let size_blocks = state.size_blocks + more;
        (Self::ask(&mut state, Asked::Grow { size_blocks }), size_blocks)
    }

    pub(crate) fn snapshot(&self, name: &str) -> RequestId {
        let mut state = self.lock();
        let from = state.answered_floor();
        let name = name.to_owned();
        Self::ask(&mut state, Asked::Snapshot { name, from })
    }

    pub(crate) fn remove_snapshot(&self, name: &str) -> RequestId {
        let mut state = self.lock();
        state.doubtful.push(name.to_owned());
        let name = name.to_owned();
        Self::ask(&mut state, Asked::RemoveSnapshot { name })
    }

    pub(crate) fn snapshot_names(&self) -> Vec<String> {
        let state = self.lock();
        state
            .snapshots
            .keys()
            .filter(|name| !state.doubtful.contains(name))
            .cloned()
            .collect()
    }

    /// Whether somebody asked for a snapshot's removal.
    pub(crate) fn is_doubtful(&self, name: &str) -> bool {
        let state = self.lock();
        state.doubtful.iter().any(|gone| gone == name) || !state.snapshots.contains_key(name)
    }

    pub(crate) fn waits(&self) -> bool {
        !self.lock().asked.is_empty()
    }

    pub(crate) fn take_look(&self, lba: u64) -> Option<Bytes> {
        self.lock().looks.remove(&lba)
    }

    pub(crate) fn remote_floor(&self) -> usize {
        self.lock().remote_floor
    }

    /// A process may be stopped by another owner from now on.
    pub(crate) fn may_stop(&self, process: &str) {
        self.lock().may_stop.push(process.to_owned());
    }

    /// Another owner has the disk: a strict one answers nothing more, of another nobody minds.
    pub(crate) fn retire(&self, process: &str, strict: bool) {
        self.lock().retired.insert(process.to_owned(), strict);
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.lock().violation.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn completed(&self, process: &str, request: RequestId, outcome: Outcome, data: Option<Bytes>) {
        let mut state = self.lock();
        let told = state.completed(process, request, outcome, data);
        if let Err(violation) = told {
            state.violation.get_or_insert(violation);
        }
    }

    /// The snapshots whose content nobody has looked at yet.
    pub(crate) fn new_snapshots(&self) -> Vec<String> {
        self.lock()
            .new_snapshots
            .iter()
            .map(|(name, ..)| name.clone())
            .collect()
    }

    /// Compares what a snapshot holds with what it may hold, or with what it held before.
    pub(crate) fn check_snapshot(&self, name: &str, image: &Image) -> Result<(), String> {
        let mut state = self.lock();
        if let Some(known) = state.snapshots.get(name) {
            return if known == image {
                Ok(())
            } else {
                Err(format!(
                    "snapshot {name} has changed: {}",
                    first_difference(known, image)
                ))
            };
        }
        let (from, to) = match state.new_snapshots.iter().position(|(new, ..)| new == name) {
            Some(at) => {
                let (_, from, to) = state.new_snapshots.remove(at);
                (from, to)
            }
            None => (0, state.ops.len()),
        };
        let fits = state
            .prefixes(image)
            .into_iter()
            .any(|prefix| (from..=to).contains(&prefix));
        if !fits {
            return Err(format!(
                "snapshot {name} is no moment between {from} and {to}: {}",
                state.explain(image)
            ));
        }
        state.snapshots.insert(name.to_owned(), image.clone());
        Ok(())
    }

    /// Compares the list of snapshots that HEAD has after a recovery.
    pub(crate) fn check_snapshot_list(&self, found: &[String]) -> Result<(), String> {
        let mut state = self.lock();
        let doubtful = std::mem::take(&mut state.doubtful);
        for name in state.snapshots.keys() {
            if !found.contains(name) && !doubtful.contains(name) {
                return Err(format!("snapshot {name} is gone"));
            }
        }
        state.snapshots.retain(|name, _| found.contains(name));
        state.new_snapshots.clear();
        Ok(())
    }

    /// The size after a recovery: what was announced, or what was being asked for.
    pub(crate) fn check_size(&self, found: u64) -> Result<(), String> {
        let mut state = self.lock();
        if found < state.size_blocks {
            return Err(format!(
                "the disk shrank from {} to {found} blocks",
                state.size_blocks
            ));
        }
        state.size_blocks = found;
        Ok(())
    }

    /// Forgets what was being asked for, as a guest whose device is gone.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.asked.clear();
        state.looks.clear();
    }

    /// Judges the content after a recovery, `floor` changes at least, and goes on from there. Returns how many there are, and how
    /// many bytes of answered ones are not.
    pub(crate) fn recover(&self, loss: Loss, floor: usize, image: &Image) -> Result<(usize, u64), String> {
        let mut state = self.lock();
        let prefixes = state.prefixes(image);
        let Some(prefix) = prefixes.last().copied() else {
            return Err(format!(
                "after {loss:?} no prefix explains the disk: {}",
                state.explain(image)
            ));
        };
        if prefix < floor {
            return Err(format!(
                "after {loss:?} only {prefix} changes are there, {floor} were promised"
            ));
        }
        let lost = state.ops[prefix..]
            .iter()
            .filter(|op| op.answered && !op.uncertain && op.stamp != 0);
        let lost_bytes = lost.map(|op| op.blocks * BLOCK_BYTES as u64).sum();
        state.ops.truncate(prefix);
        let certain = prefixes.into_iter().find(|prefix| *prefix >= floor);
        for (index, op) in state.ops.iter_mut().enumerate() {
            op.answered = true;
            op.uncertain |= certain.is_some_and(|certain| index >= certain);
        }
        state.local_floor = prefix;
        state.remote_floor = state.remote_floor.min(prefix);
        if loss == Loss::Slice {
            state.remote_floor = prefix;
        }
        Ok((prefix, lost_bytes))
    }

    /// All that was asked for so far is in the bucket.
    pub(crate) fn arrived(&self) -> usize {
        let mut state = self.lock();
        state.remote_floor = state.answered_floor();
        state.remote_floor
    }
}

impl Op {
    fn covers(&self, lba: u64) -> bool {
        (self.lba..self.lba + self.blocks).contains(&lba)
    }
}

impl State {
    /// Up to where changes were answered: with one, all before it were.
    fn answered_floor(&self) -> usize {
        self.ops
            .iter()
            .rposition(|op| op.answered)
            .map_or(0, |last| last + 1)
    }

    fn completed(
        &mut self,
        process: &str,
        request: RequestId,
        outcome: Outcome,
        data: Option<Bytes>,
    ) -> Result<(), String> {
        if let Some(strict) = self.retired.get(process) {
            return if *strict && outcome == Outcome::Done {
                Err(format!(
                    "{process} answered {request:?} after another owner had taken over"
                ))
            } else {
                Ok(())
            };
        }
        let Some(asked) = self.asked.remove(&request) else {
            return Ok(());
        };
        match (outcome, asked) {
            (Outcome::Failed, asked) => {
                if self.faulty || self.may_stop.iter().any(|name| name == process) {
                    Ok(())
                } else {
                    Err(format!("{asked:?} failed"))
                }
            }
            (Outcome::Refused, Asked::Snapshot { .. } | Asked::RemoveSnapshot { .. }) => Ok(()),
            (Outcome::Refused, asked) => Err(format!("{asked:?} was refused")),
            (Outcome::Done, Asked::Change { op, fua }) => {
                self.ops[op].answered = true;
                if let Some(class) = fua {
                    self.durable(op + 1, class);
                }
                Ok(())
            }
            (Outcome::Done, Asked::Flush { covers, class }) => {
                self.durable(covers, class);
                Ok(())
            }
            (Outcome::Done, Asked::Read { lba, blocks, after }) => {
                let data = data.ok_or("a read without data")?;
                if data.len() as u64 != blocks * BLOCK_BYTES as u64 {
                    return Err(format!("{} bytes for {blocks} blocks", data.len()));
                }
                (lba..)
                    .zip(data.chunks(BLOCK_BYTES))
                    .zip(after)
                    .try_for_each(|((lba, block), after)| self.check_block(lba, block, after))
            }
            (Outcome::Done, Asked::Look { lba }) => {
                self.looks.insert(lba, data.ok_or("a look without data")?);
                Ok(())
            }
            (Outcome::Done, Asked::Grow { size_blocks }) => {
                self.size_blocks = self.size_blocks.max(size_blocks);
                Ok(())
            }
            (Outcome::Done, Asked::Snapshot { name, from }) => {
                self.new_snapshots.push((name, from, self.ops.len()));
                Ok(())
            }
            (Outcome::Done, Asked::RemoveSnapshot { name }) => {
                self.snapshots.remove(&name);
                self.new_snapshots.retain(|(new, ..)| *new != name);
                Ok(())
            }
        }
    }

    fn base_of(&self, lba: u64) -> Stamp {
        self.base.get(&lba).copied().unwrap_or(0)
    }

    fn durable(&mut self, covers: usize, class: Durability) {
        match class {
            Durability::None => {}
            Durability::Local => self.local_floor = self.local_floor.max(covers),
            Durability::Remote => self.remote_floor = self.remote_floor.max(covers),
        }
    }

    /// A block that was read: by the last change answered before, or by a later one.
    fn check_block(&self, lba: u64, block: &[u8], after: Option<usize>) -> Result<(), String> {
        let found = stamp::read(lba, block)?;
        let from = after.unwrap_or(0);
        let fits = self.ops[from..]
            .iter()
            .any(|op| op.covers(lba) && op.stamp == found);
        if fits || (after.is_none() && found == self.base_of(lba)) {
            return Ok(());
        }
        let expected = after.map_or(self.base_of(lba), |op| self.ops[op].stamp);
        Err(format!(
            "block {lba} was read as {found}, written as {expected} or later"
        ))
    }

    /// All prefixes of the changes that explain an image, ascending.
    fn prefixes(&self, image: &Image) -> Vec<usize> {
        let mut state: Image = image.keys().map(|lba| (*lba, self.base_of(*lba))).collect();
        let mut wrong = image.iter().filter(|(lba, stamp)| state[lba] != **stamp).count();
        let mut prefixes = Vec::new();
        if wrong == 0 {
            prefixes.push(0);
        }
        for (index, op) in self.ops.iter().enumerate() {
            for (lba, stamp) in state.range_mut(op.lba..op.lba + op.blocks) {
                let found = image[lba];
                wrong -= usize::from(*stamp != found);
                *stamp = op.stamp;
                wrong += usize::from(*stamp != found);
            }
            if wrong == 0 {
                prefixes.push(index + 1);
            }
        }
        prefixes
    }

    /// For people: which blocks say that they are of which time.
    fn explain(&self, image: &Image) -> String {
        let mut lines = Vec::new();
        for (lba, found) in image {
            let mut spans = Vec::new();
            let covering: Vec<_> = (0..).zip(&self.ops).filter(|(_, op)| op.covers(*lba)).collect();
            let ends = covering
                .iter()
                .skip(1)
                .map(|(index, _)| *index)
                .chain([self.ops.len() + 1]);
            if *found == self.base_of(*lba) {
                spans.push(
                    0..covering
                        .first()
                        .map_or(self.ops.len() + 1, |(index, _)| index + 1),
                );
            }
            for ((index, op), end) in covering.iter().zip(ends) {
                if op.stamp == *found {
                    spans.push(index + 1..end + 1);
                }
            }
            lines.push(format!("{lba}: stamp {found}, prefixes {spans:?}"));
        }
        format!("{} changes\n      {}", self.ops.len(), lines.join("\n      "))
    }
}

fn first_difference(known: &Image, image: &Image) -> String {
    let differs = known.iter().find(|(lba, stamp)| image.get(lba) != Some(stamp));
    format!("{differs:?}")
}
