//! PURE. What each run of blocks maps to.

use std::collections::BTreeMap;

/// What a run maps to; one value stands for the whole run.
pub trait RunValue: Copy + PartialEq {
    /// Returns what the block `blocks` further on maps to.
    #[must_use]
    fn advance(self, blocks: u64) -> Self;
}

/// A part of a range that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part<V> {
    /// First block.
    pub start: u64,
    /// How many.
    pub blocks: u64,
    /// What they map to; `None` for nothing.
    pub value: Option<V>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run<V> {
    blocks: u64,
    value: V,
}

/// Disjoint runs by their first block; neighbours that continue each other are one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMap<V> {
    runs: BTreeMap<u64, Run<V>>,
}

impl<V> Default for RunMap<V> {
    fn default() -> Self {
        Self {
            runs: BTreeMap::new(),
        }
    }
}

impl<V: RunValue> RunMap<V> {
    /// Maps `start..start + blocks` to `value`. What it mapped to before is handed to `removed`, run by run.
    ///
    /// Costs O((k + 1) log n) for k runs replaced.
    pub fn set(&mut self, start: u64, blocks: u64, value: V, removed: impl FnMut(Part<V>)) {
        assert!(blocks > 0, "an empty run at {start}");
        self.clear(start, blocks, removed);
        let (mut start, mut blocks) = (start, blocks);
        let mut value = value;
        if let Some((&before, run)) = self.runs.range(..start).next_back()
            && before + run.blocks == start
            && run.value.advance(run.blocks) == value
        {
            (start, blocks, value) = (before, run.blocks + blocks, run.value);
        }
        let end = start + blocks;
        if let Some(&Run {
            blocks: more,
            value: next,
        }) = self.runs.get(&end)
            && value.advance(blocks) == next
        {
            self.runs.remove(&end);
            blocks += more;
        }
        self.runs.insert(start, Run { blocks, value });
    }

    /// Maps `start..start + blocks` to nothing. What it mapped to before is handed to `removed`, run by run.
    pub fn clear(&mut self, start: u64, blocks: u64, mut removed: impl FnMut(Part<V>)) {
        let end = start + blocks;
        let first = self.runs.range(..start).next_back().map(|(&first, _)| first);
        if let Some(first) = first {
            let run = self.runs[&first];
            let run_end = first + run.blocks;
            if run_end > start {
                let head = start - first;
                self.runs.insert(first, Run { blocks: head, ..run });
                self.runs.insert(
                    start,
                    Run {
                        blocks: run_end - start,
                        value: run.value.advance(head),
                    },
                );
            }
        }
        while let Some((&first, &run)) = self.runs.range(start..end).next() {
            self.runs.remove(&first);
            let mut gone = run.blocks;
            if first + run.blocks > end {
                gone = end - first;
                self.runs.insert(
                    end,
                    Run {
                        blocks: run.blocks - gone,
                        value: run.value.advance(gone),
                    },
                );
            }
            removed(Part {
                start: first,
                blocks: gone,
                value: Some(run.value),
            });
        }
    }

    /// Returns what `start..start + blocks` maps to, in order, without gap or overlap.
    #[must_use]
    pub fn parts(&self, start: u64, blocks: u64) -> Vec<Part<V>> {
        let end = start + blocks;
        let mut parts = Vec::new();
        let mut at = start;
        let first = self
            .runs
            .range(..=start)
            .next_back()
            .map_or(start, |(&first, _)| first);
        for (&first, run) in self.runs.range(first..end) {
            let (from, to) = (first.max(start), (first + run.blocks).min(end));
            if from >= to {
                continue;
            }
            if at < from {
                parts.push(Part {
                    start: at,
                    blocks: from - at,
                    value: None,
                });
            }
            parts.push(Part {
                start: from,
                blocks: to - from,
                value: Some(run.value.advance(from - first)),
            });
            at = to;
        }
        if at < end {
            parts.push(Part {
                start: at,
                blocks: end - at,
                value: None,
            });
        }
        parts
    }

    /// Returns every run, in order.
    pub fn iter(&self) -> impl Iterator<Item = Part<V>> + '_ {
        self.runs.iter().map(|(&start, run)| Part {
            start,
            blocks: run.blocks,
            value: Some(run.value),
        })
    }

    /// Returns how many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Says whether nothing is mapped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

#[cfg(test)]
mod tests;
