//! PURE
//! Tags: how a logical volume says that it is ours, whose it is, and what a host that never saw it must know.

use std::fmt;

use crate::pool::SliceId;
use crate::volume::VolumeId;

#[cfg(test)]
mod tests;

/// On everything of ours. What does not have it is never touched, whatever its name.
pub const OURS: &str = "volumed";
/// On a slice that is still being made.
pub const UNFINISHED: &str = "volumed.state=new";
const ID: &str = "volumed.id=";
const TEMPORARY: &str = "volumed.temporary=";
const SIZE: &str = "volumed.size=";
const HEADER: &str = "volumed.header=";
const OF: &str = "volumed.of=";
const LINEAGE: &str = "volumed.lineage=";
const GROWING: &str = "volumed.growing=";

/// Which state of a thin pool's metadata a capture was taken from. Differences between two captures are believed only
/// when both, and the pool, are of one lineage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The pool's UUID.
    pub pool: String,
    /// Where its metadata lies: a repair moves it.
    pub place: String,
    /// How often the pool was found damaged.
    pub damages: u64,
    /// Transaction when the capture was taken. Never goes back.
    pub transaction_id: u64,
}

impl Lineage {
    /// Says whether both are of one unbroken history of the pool, `self` being the older.
    pub fn leads_to(&self, later: &Self) -> bool {
        self.pool == later.pool
            && self.place == later.place
            && self.damages == later.damages
            && self.transaction_id <= later.transaction_id
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let lineage = Self {
            pool: parts.next()?.to_owned(),
            place: parts.next()?.to_owned(),
            damages: parts.next()?.parse().ok()?,
            transaction_id: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(lineage)
    }
}

impl fmt::Display for Lineage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pool, place) = (&self.pool, &self.place);
        write!(f, "{pool}:{place}:{}:{}", self.damages, self.transaction_id)
    }
}

/// What the tags of a slice say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceTags {
    /// Whose it is.
    pub id: SliceId,
    /// Whether it is finished.
    pub complete: bool,
    /// Size as the guest sees it, when it was made.
    pub size_bytes: u64,
    /// Bytes before the guest's first one; 0 when it is not encrypted.
    pub header_bytes: u64,
    /// The volume that a capture is of.
    pub of: Option<VolumeId>,
    /// Where a thin capture comes from.
    pub lineage: Option<Lineage>,
    /// Bytes that it had when a grow began that has not ended.
    pub growing_from: Option<u64>,
}

impl SliceTags {
    /// Reads tags; none when they are not those of a slice of ours.
    pub fn parse(tags: &[String]) -> Option<Self> {
        if !tags.iter().any(|tag| tag == OURS) {
            return None;
        }
        let value = |key: &str| tags.iter().find_map(|tag| tag.strip_prefix(key));
        Some(Self {
            id: SliceId::from_name(value(ID)?)?,
            complete: !tags.iter().any(|tag| tag == UNFINISHED),
            size_bytes: value(SIZE)?.parse().ok()?,
            header_bytes: value(HEADER).map_or(Some(0), |text| text.parse().ok())?,
            of: value(OF).and_then(|text| VolumeId::parse(text).ok()),
            lineage: value(LINEAGE).and_then(Lineage::parse),
            growing_from: value(GROWING).and_then(|text| text.parse().ok()),
        })
    }

    /// Returns the tags.
    pub fn render(&self) -> Vec<String> {
        let mut tags = vec![
            OURS.to_owned(),
            format!("{ID}{}", self.id.name()),
            format!("{SIZE}{}", self.size_bytes),
        ];
        if !self.complete {
            tags.push(UNFINISHED.to_owned());
        }
        if self.header_bytes > 0 {
            tags.push(format!("{HEADER}{}", self.header_bytes));
        }
        if let Some(of) = &self.of {
            tags.push(format!("{OF}{of}"));
        }
        if let Some(lineage) = &self.lineage {
            tags.push(format!("{LINEAGE}{lineage}"));
        }
        if let Some(bytes) = self.growing_from {
            tags.push(growing(bytes));
        }
        tags
    }
}

/// The tag of a slice whose grow has begun and not ended.
pub fn growing(from_bytes: u64) -> String {
    format!("{GROWING}{from_bytes}")
}

/// The tag that holds a slice's size.
pub fn size(size_bytes: u64) -> String {
    format!("{SIZE}{size_bytes}")
}

/// The tags of a helper volume that exists only while `owner` is being made.
pub fn temporary(owner: &SliceId) -> Vec<String> {
    vec![OURS.to_owned(), format!("{TEMPORARY}{}", owner.name())]
}

/// Returns for which slice a helper volume was made; none when the tags are not those of one.
pub fn temporary_owner(tags: &[String]) -> Option<SliceId> {
    if !tags.iter().any(|tag| tag == OURS) {
        return None;
    }
    let owner = tags.iter().find_map(|tag| tag.strip_prefix(TEMPORARY))?;
    SliceId::from_name(owner)
}
