//! PURE. Whether LTX files follow one upon the other.

use ltx::{Checksum, FileName, Header, Pos};

/// A file that was read to its end and is sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: FileName,
    /// What it says of itself.
    pub header: Header,
    /// The position after it.
    pub after: Pos,
}

/// What is wrong with a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Break {
    /// A file holds other transactions than its name says.
    #[error("{name} holds {says}")]
    Misnamed {
        /// Its name.
        name: FileName,
        /// What it should be called.
        says: FileName,
    },
    /// Transactions are missing, or there are two of one.
    #[error("{name} follows upon {before}, the file before it leads to {found}")]
    Hole {
        /// The file behind.
        name: FileName,
        /// Where it begins.
        before: Pos,
        /// Where the last one ends.
        found: Pos,
    },
    /// The last file is not where the database is.
    #[error("the last ltx file leads to {found}, the database is at {pos}")]
    End {
        /// Where the database is.
        pos: Pos,
        /// Where the last file ends; [`Pos::ZERO`] if there is none.
        found: Pos,
    },
}

/// Returns what is wrong with the files of a database.
///
/// The oldest may follow upon what was removed. One that makes a database of nothing follows upon anything, and makes what came
/// before it superfluous.
///
/// * `links`: in any order.
/// * `pos`: where the database is.
#[must_use]
pub fn breaks(mut links: Vec<Link>, pos: Pos) -> Vec<Break> {
    links.sort_by_key(|link| (link.name.max, std::cmp::Reverse(link.name.min)));
    let mut found = Vec::new();
    let mut last: Option<Pos> = None;
    for link in &links {
        let (name, says) = (link.name, link.header.file_name());
        if name != says {
            found.push(Break::Misnamed { name, says });
        }
        let before = link.header.pre_apply_pos();
        let anew = link.header.is_snapshot() || link.header.pre_apply == Checksum::EMPTY_DATABASE;
        if let Some(last) = last.filter(|last| *last != before && !anew) {
            found.push(Break::Hole {
                name,
                before,
                found: last,
            });
        }
        last = Some(link.after);
    }
    let end = last.unwrap_or(Pos::ZERO);
    if end != pos {
        found.push(Break::End { pos, found: end });
    }
    found
}

#[cfg(test)]
mod tests;
