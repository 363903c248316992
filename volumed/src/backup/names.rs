//! Keys of the objects of backups.

use std::fmt;

use objstore::{Key, Remedy};

use super::block::Address;

/// Everything of backups is below it.
pub(super) const ROOT: &str = "backup/";

/// Longest id of a volume or snapshot.
const ID_BYTES_MAX: usize = 64;

/// One snapshot of one volume, in the bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotRef {
    volume_id: String,
    snapshot_id: String,
}

/// An id that cannot be part of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("id {id:?}: must be 1 to {ID_BYTES_MAX} letters, digits, dashes and underscores")]
pub struct IdError {
    /// What was given.
    pub id: String,
}

impl IdError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        Remedy::FixRequest
    }
}

/// Checks that `id` can be part of a key.
pub(super) fn check_id(id: &str) -> Result<(), IdError> {
    let fits = (1..=ID_BYTES_MAX).contains(&id.len());
    if fits
        && id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    {
        return Ok(());
    }
    Err(IdError { id: id.to_owned() })
}

impl SnapshotRef {
    /// Names a snapshot.
    ///
    /// # Errors
    /// [`IdError`] for an id that is not 1 to 64 letters, digits, dashes and underscores.
    pub fn new(volume_id: &str, snapshot_id: &str) -> Result<Self, IdError> {
        check_id(volume_id)?;
        check_id(snapshot_id)?;
        Ok(Self {
            volume_id: volume_id.to_owned(),
            snapshot_id: snapshot_id.to_owned(),
        })
    }

    /// The volume's id.
    #[must_use]
    pub fn volume_id(&self) -> &str {
        &self.volume_id
    }

    /// The snapshot's id.
    #[must_use]
    pub fn snapshot_id(&self) -> &str {
        &self.snapshot_id
    }

    /// Key of its manifest.
    pub(super) fn manifest_key(&self) -> Key {
        key(format!(
            "{}{}",
            manifests_prefix(&self.volume_id),
            self.snapshot_id
        ))
    }

    /// Reads a manifest's key back.
    pub(super) fn of_manifest_key(key: &Key) -> Option<Self> {
        let (volume_id, snapshot_id) = key.as_str().strip_prefix(ROOT)?.split_once("/m/")?;
        Self::new(volume_id, snapshot_id).ok()
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {} of volume {}", self.snapshot_id, self.volume_id)
    }
}

/// A stored block: its content's address, and the snapshot whose upload wrote it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct BlockName {
    pub(super) writer: String,
    pub(super) address: Address,
}

impl BlockName {
    pub(super) fn key(&self, volume_id: &str) -> Key {
        key(format!(
            "{}{}/{}",
            blocks_prefix(volume_id),
            self.writer,
            self.address
        ))
    }

    /// Reads a block's key back.
    pub(super) fn of_key(volume_id: &str, key: &Key) -> Option<Self> {
        let (writer, address) = key
            .as_str()
            .strip_prefix(&blocks_prefix(volume_id))?
            .split_once('/')?;
        check_id(writer).ok()?;
        Some(Self {
            writer: writer.to_owned(),
            address: Address::parse(address)?,
        })
    }
}

pub(super) fn volume_prefix(volume_id: &str) -> String {
    format!("{ROOT}{volume_id}/")
}

pub(super) fn blocks_prefix(volume_id: &str) -> String {
    format!("{ROOT}{volume_id}/b/")
}

pub(super) fn manifests_prefix(volume_id: &str) -> String {
    format!("{ROOT}{volume_id}/m/")
}

/// The volume's register.
pub(super) fn state_key(volume_id: &str) -> Key {
    key(format!("{ROOT}{volume_id}/gc/state"))
}

pub(super) fn candidates_prefix(volume_id: &str) -> String {
    format!("{ROOT}{volume_id}/gc/candidates/")
}

pub(super) fn candidates_key(volume_id: &str, name: &str) -> Key {
    key(format!("{}{name}", candidates_prefix(volume_id)))
}

fn key(text: String) -> Key {
    match Key::new(text) {
        Ok(key) => key,
        Err(error) => unreachable!("ids were checked: {error}"),
    }
}
