//! PURE
//! The differences between two thin volumes, as `thin_delta` prints them.
//!
//! The format is XML of one element a line. This reader takes exactly that and refuses everything else: a difference
//! that was overlooked would be a wrong backup.

use std::ops::Range;

#[cfg(test)]
mod tests;

const SECTOR_BYTES: u64 = 512;

/// Why the output of `thin_delta` was not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// A line that is not as it should be.
    #[error("thin_delta, line {line}: {text:?}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What stood there.
        text: String,
    },
    /// It ends before its end.
    #[error("thin_delta: the document is cut short")]
    Cut,
    /// It compares something else.
    #[error("thin_delta: compared thin devices {left} and {right}, asked for {asked_left} and {asked_right}")]
    Other {
        /// Compared.
        left: u64,
        /// Compared.
        right: u64,
        /// Asked for.
        asked_left: u64,
        /// Asked for.
        asked_right: u64,
    },
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// Bytes of a chunk.
    pub chunk_bytes: u64,
    /// Ranges of bytes that may differ, in order, none touching the next.
    pub changed: Vec<Range<u64>>,
}

/// Reads the differences between thin devices `left` and `right`.
///
/// # Errors
/// [`DeltaError`]; then nothing is known about the differences.
pub fn parse(xml: &str, left: u64, right: u64) -> Result<Delta, DeltaError> {
    let mut reader = Reader::default();
    for (index, text) in xml.lines().enumerate() {
        let text = text.trim();
        if text.is_empty() {
            continue;
        }
        reader.line(text).ok_or_else(|| DeltaError::Line {
            line: index + 1,
            text: text.to_owned(),
        })?;
    }
    if reader.place != Place::After {
        return Err(DeltaError::Cut);
    }
    if (reader.left, reader.right) != (left, right) {
        return Err(DeltaError::Other {
            left: reader.left,
            right: reader.right,
            asked_left: left,
            asked_right: right,
        });
    }
    Ok(Delta {
        chunk_bytes: reader.chunk_bytes,
        changed: reader.changed,
    })
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Superblock,
    Diff,
    DiffDone,
    After,
}

#[derive(Debug, Default)]
struct Reader {
    place: Place,
    chunk_bytes: u64,
    left: u64,
    right: u64,
    /// Where the next run must not begin before.
    reached: u64,
    changed: Vec<Range<u64>>,
}

impl Reader {
    fn line(&mut self, text: &str) -> Option<()> {
        let inner = text.strip_prefix('<')?.strip_suffix('>')?;
        match (self.place, inner) {
            (Place::Diff, "/diff") => self.place = Place::DiffDone,
            (Place::DiffDone, "/superblock") => self.place = Place::After,
            (Place::Before, _) => {
                let element = Element::parse(inner)?;
                if element.name != "superblock" {
                    return None;
                }
                self.chunk_bytes = element.number("data_block_size")?.checked_mul(SECTOR_BYTES)?;
                if self.chunk_bytes == 0 {
                    return None;
                }
                self.place = Place::Superblock;
            }
            (Place::Superblock, _) => {
                let element = Element::parse(inner)?;
                if element.name != "diff" {
                    return None;
                }
                self.left = element.number("left")?;
                self.right = element.number("right")?;
                // Without a difference or anything in common the element is closed at once.
                self.place = if element.closed {
                    Place::DiffDone
                } else {
                    Place::Diff
                };
            }
            (Place::Diff, _) => self.run(&Element::parse(inner)?)?,
            (Place::DiffDone | Place::After, _) => return None,
        }
        Some(())
    }

    fn run(&mut self, element: &Element<'_>) -> Option<()> {
        if !element.closed {
            return None;
        }
        let (begin, length) = (element.number("begin")?, element.number("length")?);
        if begin < self.reached || length == 0 {
            return None;
        }
        self.reached = begin.checked_add(length)?;
        let range = begin.checked_mul(self.chunk_bytes)?..self.reached.checked_mul(self.chunk_bytes)?;
        match element.name {
            "same" => {}
            // Mapped in one of them only: discarded since, or written since.
            "different" | "left_only" | "right_only" => match self.changed.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                _ => self.changed.push(range),
            },
            _ => return None,
        }
        Some(())
    }
}

/// One element's name and attributes.
struct Element<'a> {
    name: &'a str,
    attributes: Vec<(&'a str, &'a str)>,
    closed: bool,
}

impl<'a> Element<'a> {
    fn parse(inner: &'a str) -> Option<Self> {
        let (inner, closed) = match inner.strip_suffix('/') {
            Some(inner) => (inner, true),
            None => (inner, false),
        };
        let (name, mut rest) = inner.split_once(' ').unwrap_or((inner, ""));
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            return None;
        }
        let mut attributes = Vec::new();
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                return Some(Self {
                    name,
                    attributes,
                    closed,
                });
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = after.split_once('"')?;
            if !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
                return None;
            }
            attributes.push((key, value));
            rest = after;
        }
    }

    fn number(&self, key: &str) -> Option<u64> {
        let (_, value) = self.attributes.iter().find(|(k, _)| *k == key)?;
        value.parse().ok()
    }
}
