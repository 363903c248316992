//! PURE. What is thrown out of the cache next: S3-FIFO, three queues and no order by last use.

use std::collections::{BTreeMap, VecDeque};

/// Uses that count; more say nothing more.
const USES_MAX: u8 = 3;

/// What was thrown out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Evicted<K>(pub(super) K);

#[derive(Debug, Clone, Copy)]
struct Kept {
    /// Which of its entries in the queues is valid.
    stamp: u64,
    uses: u8,
    in_main: bool,
}

/// New keys wait in a short queue; those that are used again while they do move to the long one; the others are only
/// remembered, and go to the long one at once when they come back.
#[derive(Debug)]
pub(super) struct Queues<K> {
    small_max: usize,
    ghosts_max: usize,
    kept: BTreeMap<K, Kept>,
    small: VecDeque<(K, u64)>,
    main: VecDeque<(K, u64)>,
    /// Keys of the short queue that are still valid.
    small_len: usize,
    ghosts: VecDeque<(K, u64)>,
    remembered: BTreeMap<K, u64>,
    next_stamp: u64,
}

impl<K: Copy + Ord> Queues<K> {
    pub(super) fn new(slots: usize) -> Self {
        Self {
            small_max: slots / 10,
            ghosts_max: slots,
            kept: BTreeMap::new(),
            small: VecDeque::new(),
            main: VecDeque::new(),
            small_len: 0,
            ghosts: VecDeque::new(),
            remembered: BTreeMap::new(),
            next_stamp: 0,
        }
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }

    /// Adds a key that is not kept.
    pub(super) fn add(&mut self, key: K) {
        let in_main = self.remembered.remove(&key).is_some();
        let stamp = self.stamp();
        let uses = 0;
        self.kept.insert(key, Kept { stamp, uses, in_main });
        if in_main {
            self.main.push_back((key, stamp));
        } else {
            self.small.push_back((key, stamp));
            self.small_len += 1;
        }
        self.compact();
    }

    /// Counts a use.
    pub(super) fn touch(&mut self, key: K) {
        if let Some(kept) = self.kept.get_mut(&key) {
            kept.uses = (kept.uses + 1).min(USES_MAX);
        }
    }

    /// Says whether a key was wanted before and is not kept.
    pub(super) fn remembers(&self, key: K) -> bool {
        self.remembered.contains_key(&key)
    }

    /// Remembers a key that is not kept.
    pub(super) fn remember(&mut self, key: K) {
        if self.ghosts_max == 0 {
            return;
        }
        let stamp = self.stamp();
        self.remembered.insert(key, stamp);
        self.ghosts.push_back((key, stamp));
        while self.ghosts.len() > self.ghosts_max {
            if let Some((oldest, stamp)) = self.ghosts.pop_front()
                && self.remembered.get(&oldest) == Some(&stamp)
            {
                self.remembered.remove(&oldest);
            }
        }
    }

    /// Takes a key out that is kept no longer, and does not remember it.
    pub(super) fn remove(&mut self, key: K) {
        if let Some(kept) = self.kept.remove(&key)
            && !kept.in_main
        {
            self.small_len -= 1;
        }
    }

    /// Throws out the next key that `idle` agrees to; none when it refuses all.
    pub(super) fn evict(&mut self, idle: impl Fn(&K) -> bool) -> Option<Evicted<K>> {
        let mut refusals = 0;
        while refusals <= self.kept.len() {
            let from_small = self.small_len > self.small_max || self.small_len == self.kept.len();
            let queue = if from_small {
                &mut self.small
            } else {
                &mut self.main
            };
            let (key, stamp) = queue.pop_front()?;
            let Some(kept) = self.kept.get_mut(&key).filter(|kept| kept.stamp == stamp) else {
                continue;
            };
            if !idle(&key) {
                refusals += 1;
                self.put_back(key, stamp);
                continue;
            }
            if kept.uses > 0 {
                kept.uses = if from_small { 0 } else { kept.uses - 1 };
                if from_small {
                    self.small_len -= 1;
                    kept.in_main = true;
                }
                self.main.push_back((key, stamp));
                continue;
            }
            self.kept.remove(&key);
            if from_small {
                self.small_len -= 1;
                self.remember(key);
            }
            return Some(Evicted(key));
        }
        None
    }

    /// Puts a key that is busy at the end of the long queue: what is being read is in use.
    fn put_back(&mut self, key: K, stamp: u64) {
        if let Some(kept) = self.kept.get_mut(&key)
            && !kept.in_main
        {
            kept.in_main = true;
            self.small_len -= 1;
        }
        self.main.push_back((key, stamp));
    }

    /// Drops what was removed from the midst of the queues, once it is most of them.
    fn compact(&mut self) {
        if self.small.len() + self.main.len() > 2 * self.kept.len() + 64 {
            let kept = &self.kept;
            let valid = |(key, stamp): &(K, u64)| kept.get(key).is_some_and(|kept| kept.stamp == *stamp);
            self.small.retain(valid);
            self.main.retain(valid);
        }
    }
}
