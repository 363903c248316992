//! The register of a volume's backups: which uploads are open, and what a sweep may take.
//!
//! One object, `gc/state`, changed by compare-and-swap only and never deleted. Every change raises its epoch, so that no
//! two of its versions are equal and an etag names one of them for good.

use bytes::Bytes;
use jiff::Timestamp;
use objstore::{ETag, GetError, ObjectStore, PutError, Remedy};
use serde::{Deserialize, Serialize};

use super::GC;
use super::damage::{Damage, Flaw, classify};
use super::names::state_key;

const MAGIC: [u8; 4] = *b"HGGS";
const VERSION: u16 = 1;
const JSON_AT: usize = 12;
const CRC_BYTES: usize = 4;

/// Times a change is tried again after somebody else's came first.
const ATTEMPTS: u32 = 16;

/// Why the register could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The store did not give it.
    #[error("reading the register of backups of volume {volume_id}")]
    Get {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: GetError,
    },
    /// The store did not take it.
    #[error("changing the register of backups of volume {volume_id}")]
    Put {
        /// The volume.
        volume_id: String,
        /// What the store said.
        #[source]
        source: PutError,
    },
    /// It is there and unreadable. It may be deleted by hand while no backup of the volume runs.
    #[error("register of backups of volume {volume_id}: delete it while no backup of the volume runs")]
    Damaged {
        /// The volume.
        volume_id: String,
        /// How.
        #[source]
        source: Damage,
    },
    /// Others kept changing it.
    #[error("register of backups of volume {volume_id}: changed by others {ATTEMPTS} times in a row")]
    Contended {
        /// The volume.
        volume_id: String,
    },
}

impl StateError {
    /// What the caller can do.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Get { source, .. } => source.remedy(),
            Self::Put { source, .. } => source.remedy(),
            Self::Damaged { source, .. } => source.remedy(),
            Self::Contended { .. } => Remedy::Retry,
        }
    }
}

/// The register's content. Stored as `HGGS`, version (2 bytes, little endian), 2 zero bytes, length of the JSON (4), the
/// JSON, CRC-32 of everything before.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Changes made so far.
    pub(super) epoch: u64,
    /// Snapshots whose uploads have begun and not ended.
    pub(super) open: Vec<String>,
    /// What the last mark found, until a sweep has dealt with it.
    pub(super) candidates: Option<Candidates>,
}

/// Where a mark's list is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Candidates {
    /// Last part of the list's key.
    pub(super) name: String,
    pub(super) marked_at: Timestamp,
}

/// The register as it was read, and the means to change exactly that version.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) state: State,
    etag: Option<ETag>,
}

/// How a change of one version went.
#[derive(Debug)]
pub(super) enum Swap {
    Done,
    /// Somebody else changed it first.
    Stale,
}

pub(super) async fn load(store: &dyn ObjectStore, volume_id: &str) -> Result<Loaded, StateError> {
    let key = state_key(volume_id);
    let object = match store.get(&key, None, GC).await {
        Ok(object) => object,
        Err(GetError::NotFound { .. }) => {
            return Ok(Loaded {
                state: State::default(),
                etag: None,
            });
        }
        Err(error) => {
            let volume_id = volume_id.to_owned();
            return Err(match classify(error) {
                Ok(source) => StateError::Damaged { volume_id, source },
                Err(source) => StateError::Get { volume_id, source },
            });
        }
    };
    match decode(&object.bytes) {
        Ok(state) => Ok(Loaded {
            state,
            etag: Some(object.etag),
        }),
        Err(flaw) => {
            let source = Damage { object: key, flaw };
            Err(StateError::Damaged {
                volume_id: volume_id.to_owned(),
                source,
            })
        }
    }
}

/// Replaces the version `loaded` by `next`, whose epoch is set here.
pub(super) async fn swap(
    store: &dyn ObjectStore,
    volume_id: &str,
    loaded: &Loaded,
    mut next: State,
) -> Result<Swap, StateError> {
    next.epoch = loaded.state.epoch + 1;
    let key = state_key(volume_id);
    let put = match &loaded.etag {
        None => store.put_if_absent(&key, encode(&next), GC).await,
        Some(etag) => store.put_if_match(&key, etag, encode(&next), GC).await,
    };
    match put {
        Ok(_) => Ok(Swap::Done),
        // Also when our own put had been applied before somebody else's: then this version is past, too.
        Err(PutError::Exists { .. } | PutError::Stale { .. }) => Ok(Swap::Stale),
        Err(source) => Err(StateError::Put {
            volume_id: volume_id.to_owned(),
            source,
        }),
    }
}

/// Changes the register until `change` has nothing left to change; it must be idempotent.
///
/// An error leaves it open whether the change was made: calling again settles it.
pub(super) async fn update(
    store: &dyn ObjectStore,
    volume_id: &str,
    change: impl Fn(&mut State),
) -> Result<(), StateError> {
    for _ in 0..ATTEMPTS {
        let loaded = load(store, volume_id).await?;
        let mut next = loaded.state.clone();
        change(&mut next);
        if next == loaded.state {
            return Ok(());
        }
        match swap(store, volume_id, &loaded, next).await? {
            Swap::Done => return Ok(()),
            Swap::Stale => {}
        }
    }
    Err(StateError::Contended {
        volume_id: volume_id.to_owned(),
    })
}

/// Enters an upload.
pub(super) async fn open(
    store: &dyn ObjectStore,
    volume_id: &str,
    snapshot_id: &str,
) -> Result<(), StateError> {
    let enter = |state: &mut State| {
        if !state.open.iter().any(|open| open == snapshot_id) {
            state.open.push(snapshot_id.to_owned());
        }
    };
    update(store, volume_id, enter).await
}

/// Strikes an upload out. Only after its manifest's key was decided: published, or void.
pub(super) async fn close(
    store: &dyn ObjectStore,
    volume_id: &str,
    snapshot_id: &str,
) -> Result<(), StateError> {
    update(store, volume_id, |state| {
        state.open.retain(|open| open != snapshot_id)
    })
    .await
}

pub(super) fn encode(state: &State) -> Bytes {
    let json =
        serde_json::to_vec(state).unwrap_or_else(|error| unreachable!("state is plain values: {error}"));
    let json_bytes = u32::try_from(json.len()).unwrap_or(u32::MAX);
    let mut out = Vec::with_capacity(JSON_AT + json.len() + CRC_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&json_bytes.to_le_bytes());
    out.extend_from_slice(&json);
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    Bytes::from(out)
}

pub(super) fn decode(bytes: &[u8]) -> Result<State, Flaw> {
    let shortest = JSON_AT + CRC_BYTES;
    let length = |expected: usize| Flaw::Length {
        expected_bytes: expected as u64,
        found_bytes: bytes.len() as u64,
    };
    if bytes.len() < shortest {
        return Err(length(shortest));
    }
    if !bytes.starts_with(&MAGIC) {
        return Err(Flaw::Magic);
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(Flaw::Version { version });
    }
    let json_bytes = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize;
    let expected = shortest.saturating_add(json_bytes);
    if bytes.len() != expected {
        return Err(length(expected));
    }
    let (body, crc) = bytes.split_at(bytes.len() - CRC_BYTES);
    if crc32fast::hash(body).to_le_bytes() != crc {
        return Err(Flaw::Header);
    }
    serde_json::from_slice(&body[JSON_AT..]).map_err(|_| Flaw::Facts)
}

#[cfg(test)]
mod tests;
