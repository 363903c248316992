//! A set of pages, kept as runs.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of page numbers, as runs that neither touch nor overlap: start → end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PageRanges {
    runs: BTreeMap<u64, u64>,
    pages: u64,
}

impl PageRanges {
    /// How many pages the set has.
    pub(crate) fn pages(&self) -> u64 {
        self.pages
    }

    /// How many pages of `range` are missing from the set.
    pub(crate) fn missing(&self, range: Range<u64>) -> u64 {
        let present: u64 = self
            .touching(&range)
            .map(|(start, end)| end.min(range.end).saturating_sub(start.max(range.start)))
            .sum();
        range.end.saturating_sub(range.start) - present
    }

    /// Adds the pages of `range`.
    pub(crate) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touching: Vec<_> = self.touching(&range).collect();
        let (mut start, mut end) = (range.start, range.end);
        for (run_start, run_end) in touching {
            self.runs.remove(&run_start);
            self.pages -= run_end - run_start;
            start = start.min(run_start);
            end = end.max(run_end);
        }
        self.runs.insert(start, end);
        self.pages += end - start;
    }

    /// Removes the pages of `range`.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let touching: Vec<_> = self.touching(&range).collect();
        for (run_start, run_end) in touching {
            self.runs.remove(&run_start);
            self.pages -= run_end - run_start;
            for (start, end) in [
                (run_start, run_end.min(range.start)),
                (run_start.max(range.end), run_end),
            ] {
                if start < end {
                    self.runs.insert(start, end);
                    self.pages += end - start;
                }
            }
        }
    }

    /// The runs that overlap `range` or touch it.
    fn touching(&self, range: &Range<u64>) -> impl Iterator<Item = (u64, u64)> {
        let Range { start, end } = *range;
        let before = self
            .runs
            .range(..start)
            .next_back()
            .filter(move |(_, run_end)| **run_end >= start);
        before
            .into_iter()
            .chain(self.runs.range(start..=end))
            .map(|(start, end)| (*start, *end))
    }
}

#[cfg(test)]
mod tests;
