//! PURE
//! LVM's JSON reports. Every value is a string; an empty one means that it does not apply. Fields that we do not know are
//! passed over, one that is missing is named.

use std::path::PathBuf;

use serde::Deserialize;

#[cfg(test)]
mod tests;

/// What `lvs -o` is asked for.
pub const LV_FIELDS: &str = "lv_uuid,lv_name,lv_attr,lv_size,lv_metadata_size,lv_tags,pool_lv,origin,thin_id,transaction_id,\
     data_percent,chunk_size,zero,lv_active,lv_suspended,lv_device_open,lv_snapshot_invalid,seg_pe_ranges";
/// What `vgs -o` is asked for.
pub const VG_FIELDS: &str =
    "vg_name,vg_uuid,vg_attr,vg_size,vg_free,vg_extent_size,vg_missing_pv_count,vg_seqno";

/// Why a report could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// It is not the document that LVM writes, or lacks a field.
    #[error("report of {what}")]
    Form {
        /// `lvs` or `vgs`.
        what: &'static str,
        /// Where and what.
        #[source]
        source: serde_json::Error,
    },
    /// A number that is none.
    #[error("report of {what}: {field} of {name} is {text:?}, not a number")]
    Number {
        /// `lvs` or `vgs`.
        what: &'static str,
        /// Which field.
        field: &'static str,
        /// Of which volume or group.
        name: String,
        /// What stood there.
        text: String,
    },
    /// A report of one group that has none, or several.
    #[error("report of vgs: {count} groups instead of one")]
    Count {
        /// How many.
        count: usize,
    },
}

/// One volume group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vg {
    /// Its name.
    pub name: String,
    /// Its UUID.
    pub uuid: String,
    /// Bytes in all.
    pub size_bytes: u64,
    /// Bytes in free extents.
    pub free_bytes: u64,
    /// Bytes of one extent.
    pub extent_bytes: u64,
    /// Physical volumes that are not there.
    pub missing_pvs: u64,
    /// Whether changes are allowed: not exported, not read-only, not partial.
    pub writable: bool,
    /// Grows by one with each change.
    pub seqno: u64,
}

/// One logical volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lv {
    /// Its name, without the brackets of a hidden one.
    pub name: String,
    /// Whether it is a part of another one.
    pub hidden: bool,
    /// Its UUID.
    pub uuid: String,
    /// LVM's ten letters.
    pub attr: String,
    /// Bytes.
    pub size_bytes: u64,
    /// Bytes of a pool's metadata.
    pub metadata_bytes: Option<u64>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The thin pool it is in.
    pub pool: Option<String>,
    /// What it is a snapshot of.
    pub origin: Option<String>,
    /// Its number in the pool.
    pub thin_id: Option<u64>,
    /// The pool's transaction; for a thin volume that of its creation.
    pub transaction_id: Option<u64>,
    /// Bytes that are taken, of a thin volume or a pool that is active.
    pub allocated_bytes: Option<u64>,
    /// Bytes of a chunk; 0 when it has none.
    pub chunk_bytes: u64,
    /// Whether the pool zeroes new chunks.
    pub zeroes: bool,
    /// Whether it has a device.
    pub active: bool,
    /// Whether that device is suspended, so that its users hang.
    pub suspended: bool,
    /// Whether somebody has that device open.
    pub open: bool,
    /// Whether it is a copy-on-write snapshot that ran out of room.
    pub overflowed: bool,
    /// Where its first segment lies, as `device:first-last`.
    pub place: String,
}

impl Lv {
    /// Says whether it has a tag.
    pub fn has_tag(&self, tag: &str) -> bool {
        self.tags.iter().any(|t| t == tag)
    }

    /// Says whether it is a thin pool.
    pub fn is_thin_pool(&self) -> bool {
        self.attr.starts_with('t')
    }

    /// Says whether it is a copy-on-write snapshot of a linear volume, working or overflowed.
    pub fn is_cow_snapshot(&self) -> bool {
        self.attr.starts_with(['s', 'S']) && self.pool.is_none()
    }
}

#[derive(Deserialize)]
struct Document<T> {
    report: Vec<T>,
}

#[derive(Deserialize)]
struct Lvs {
    lv: Vec<RawLv>,
}

#[derive(Deserialize)]
struct Vgs {
    vg: Vec<RawVg>,
}

#[derive(Deserialize)]
struct Pvs {
    pv: Vec<RawPv>,
}

#[derive(Deserialize)]
struct RawPv {
    pv_name: PathBuf,
}

#[derive(Deserialize)]
struct VgOfLvs {
    lv: Vec<RawVg>,
}

#[derive(Deserialize)]
struct RawLv {
    lv_uuid: String,
    lv_name: String,
    lv_attr: String,
    lv_size: String,
    lv_metadata_size: String,
    lv_tags: String,
    pool_lv: String,
    origin: String,
    thin_id: String,
    transaction_id: String,
    data_percent: String,
    chunk_size: String,
    zero: String,
    lv_active: String,
    lv_suspended: String,
    lv_device_open: String,
    lv_snapshot_invalid: String,
    seg_pe_ranges: String,
}

#[derive(Deserialize)]
struct RawVg {
    vg_name: String,
    vg_uuid: String,
    vg_attr: String,
    vg_size: String,
    vg_free: String,
    vg_extent_size: String,
    vg_missing_pv_count: String,
    vg_seqno: String,
}

/// Reads the report of `lvs -a` with [`LV_FIELDS`]. A volume of several segments comes once, with its first.
///
/// # Errors
/// [`ReportError`].
pub fn lvs(json: &str) -> Result<Vec<Lv>, ReportError> {
    let document: Document<Lvs> =
        serde_json::from_str(json).map_err(|source| ReportError::Form { what: "lvs", source })?;
    let mut found: Vec<Lv> = Vec::new();
    for raw in document.report.into_iter().flat_map(|table| table.lv) {
        let lv = lv(raw)?;
        if !found.iter().any(|earlier| earlier.uuid == lv.uuid) {
            found.push(lv);
        }
    }
    Ok(found)
}

fn lv(raw: RawLv) -> Result<Lv, ReportError> {
    let bare = raw
        .lv_name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let (name, hidden) = match bare {
        Some(bare) => (bare.to_owned(), true),
        None => (raw.lv_name, false),
    };
    let number = |field, text: &str| {
        parse("lvs", field, &name, text).and_then(|n| n.ok_or_else(|| bad("lvs", field, &name, text)))
    };
    let optional = |field, text: &str| parse("lvs", field, &name, text);
    let size_bytes = number("lv_size", &raw.lv_size)?;
    let allocated_bytes = match raw.data_percent.as_str() {
        "" => None,
        text => Some(share(size_bytes, text).ok_or_else(|| bad("lvs", "data_percent", &name, text))?),
    };
    Ok(Lv {
        uuid: raw.lv_uuid,
        attr: raw.lv_attr,
        size_bytes,
        metadata_bytes: optional("lv_metadata_size", &raw.lv_metadata_size)?,
        tags: list(&raw.lv_tags),
        pool: present(raw.pool_lv),
        origin: present(raw.origin),
        thin_id: optional("thin_id", &raw.thin_id)?,
        transaction_id: optional("transaction_id", &raw.transaction_id)?,
        allocated_bytes,
        chunk_bytes: optional("chunk_size", &raw.chunk_size)?.unwrap_or_default(),
        zeroes: raw.zero == "zero",
        active: raw.lv_active == "active",
        suspended: raw.lv_suspended == "suspended",
        open: raw.lv_device_open == "open",
        overflowed: raw.lv_snapshot_invalid == "snapshot invalid",
        place: raw
            .seg_pe_ranges
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .to_owned(),
        name,
        hidden,
    })
}

/// Reads the group from a report of `lvs` with [`VG_FIELDS`] too; none when it has no logical volume.
///
/// # Errors
/// [`ReportError`].
pub fn vg_of_lvs(json: &str) -> Result<Option<Vg>, ReportError> {
    let document: Document<VgOfLvs> =
        serde_json::from_str(json).map_err(|source| ReportError::Form { what: "lvs", source })?;
    let first = document.report.into_iter().flat_map(|table| table.lv).next();
    first.map(group).transpose()
}

/// Reads the report of `pvs` with `pv_name`; disks that are not there have no path.
///
/// # Errors
/// [`ReportError`].
pub fn pvs(json: &str) -> Result<Vec<PathBuf>, ReportError> {
    let document: Document<Pvs> =
        serde_json::from_str(json).map_err(|source| ReportError::Form { what: "pvs", source })?;
    let found = document.report.into_iter().flat_map(|table| table.pv);
    Ok(found
        .map(|pv| pv.pv_name)
        .filter(|path| path.is_absolute())
        .collect())
}

/// Reads the report of `vgs` of one group with [`VG_FIELDS`].
///
/// # Errors
/// [`ReportError`].
pub fn vg(json: &str) -> Result<Vg, ReportError> {
    let document: Document<Vgs> =
        serde_json::from_str(json).map_err(|source| ReportError::Form { what: "vgs", source })?;
    let mut found: Vec<RawVg> = document.report.into_iter().flat_map(|table| table.vg).collect();
    let count = found.len();
    match (found.pop(), count) {
        (Some(raw), 1) => group(raw),
        _ => Err(ReportError::Count { count }),
    }
}

fn group(raw: RawVg) -> Result<Vg, ReportError> {
    let name = raw.vg_name;
    let number = |field, text: &str| {
        parse("vgs", field, &name, text).and_then(|n| n.ok_or_else(|| bad("vgs", field, &name, text)))
    };
    // Letters: w or r for permissions, z resizeable, x exported, p partial.
    let writable = raw.vg_attr.starts_with("wz--");
    Ok(Vg {
        uuid: raw.vg_uuid,
        size_bytes: number("vg_size", &raw.vg_size)?,
        free_bytes: number("vg_free", &raw.vg_free)?,
        extent_bytes: number("vg_extent_size", &raw.vg_extent_size)?,
        missing_pvs: number("vg_missing_pv_count", &raw.vg_missing_pv_count)?,
        seqno: number("vg_seqno", &raw.vg_seqno)?,
        writable,
        name,
    })
}

fn bad(what: &'static str, field: &'static str, name: &str, text: &str) -> ReportError {
    ReportError::Number {
        what,
        field,
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn parse(
    what: &'static str,
    field: &'static str,
    name: &str,
    text: &str,
) -> Result<Option<u64>, ReportError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| bad(what, field, name, text))
}

/// Returns `text` per cent of `bytes`; the text has two decimals.
fn share(bytes: u64, text: &str) -> Option<u64> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    if decimals.is_empty() || decimals.len() > 6 {
        return None;
    }
    let scale = 10_u128.pow(u32::try_from(decimals.len()).ok()?);
    let parts = u128::from(whole.parse::<u32>().ok()?) * scale + u128::from(decimals.parse::<u32>().ok()?);
    u64::try_from(u128::from(bytes) * parts / (100 * scale)).ok()
}

fn list(text: &str) -> Vec<String> {
    text.split(',')
        .filter(|tag| !tag.is_empty())
        .map(str::to_owned)
        .collect()
}

fn present(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}
