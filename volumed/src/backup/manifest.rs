//! The manifest object: everything about one snapshot that a host which lost everything needs.

mod blocks;
mod facts;

use bytes::Bytes;
use jiff::Timestamp;

use super::block::Address;
use super::damage::Flaw;
use super::names::SnapshotRef;
use super::seal::{NONCE_PREFIX_BYTES, NoncePrefix, Part, Sealer, TAG_BYTES};
use crate::keys::{BackupKeys, ClusterKey, WRAPPED_KEY_BYTES, WrappedKey};

const MAGIC: [u8; 4] = *b"HGMF";
const VERSION: u16 = 1;
const KIND_COMPLETE: u16 = 1;
const KIND_VOID: u16 = 2;
const KEY_AT: usize = 16;
const NONCE_AT: usize = KEY_AT + WRAPPED_KEY_BYTES;
const CRC_AT: usize = NONCE_AT + NONCE_PREFIX_BYTES;
const CRC_BYTES: usize = 4;
/// Bytes before the sealed facts.
const HEADER_BYTES: usize = CRC_AT + CRC_BYTES;
const VOID_BYTES: usize = 20;
const FACTS_PART: u32 = 0;
const BLOCKS_PART: u32 = 1;
/// Facts are a page of text; more is no manifest of ours.
const FACTS_BYTES_MAX: usize = 1 << 20;

/// Bytes at the front of a manifest that surely hold its facts, unless somebody has very long names.
pub(super) const HEAD_BYTES: u64 = 16 << 10;

const _: () = assert!(HEADER_BYTES == 125);

/// What a backup says about its snapshot, besides the blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// The snapshot. Never used for another one.
    pub snapshot_id: String,
    /// The volume it was taken of.
    pub volume_id: String,
    /// The volume's app.
    pub app: String,
    /// The volume's name.
    pub volume_name: String,
    /// The volume's region.
    pub region: String,
    /// The volume's zone, if it has one.
    pub zone: Option<String>,
    /// The volume's size as its guest sees it.
    pub size_bytes: u64,
    /// The file system in it, once known.
    pub fstype: Option<String>,
    /// Whether the volume is encrypted on its host. The backup is in any case.
    pub encrypted: bool,
    /// Whether a file system was ever made in it: what says `true` must never be formatted.
    pub formatted: bool,
    /// The volume's generation at the snapshot.
    pub generation: u64,
    /// The point in time.
    pub created_at: Timestamp,
    /// How long the volume keeps its snapshots, in days.
    pub retention_days: u32,
    /// Whether the volume is backed up by schedule.
    pub auto_backup: bool,
    /// Whether the snapshot is one point in time by itself, without anything having been paused.
    pub atomic: bool,
    /// The snapshot whose blocks were re-used. For people; restoring needs this manifest only. [`upload`](super::upload())
    /// fills it in.
    pub parent: Option<String>,
    /// The volume's data key.
    pub wrapped_key: WrappedKey,
    /// Bytes of the blocks that this snapshot added to the bucket. `upload` fills it in.
    pub stored_bytes: u64,
    /// Blocks that hold data, added or re-used. `upload` fills it in.
    pub data_blocks: u64,
    /// Hash of size and content: equal for equal volumes under one data key. `upload` fills it in.
    pub digest: String,
}

/// A manifest, open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) head: ManifestHead,
    /// One for each 4 MiB of the volume.
    pub(super) blocks: Vec<BlockRef>,
    /// Snapshots whose uploads wrote the blocks.
    pub(super) writers: Vec<String>,
}

/// One block of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockRef {
    /// Never written, on an encrypted volume: a guest may read anything.
    Undefined,
    /// Zeros.
    Zero,
    /// Stored.
    Data {
        address: Address,
        /// Index into [`Manifest::writers`].
        writer: u32,
    },
}

/// What lies under a manifest's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decoded<T> {
    Complete(T),
    /// The snapshot was deleted or its upload abandoned: nothing can be published here any more.
    Void {
        voided_at: Timestamp,
    },
}

/// The fixed part in front; little endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 4 | `HGMF` |
/// | 4 | 2 | version, 1 |
/// | 6 | 2 | kind: 1 complete, 2 void |
/// | 8 | 4 | sealed bytes of the facts |
/// | 12 | 4 | sealed bytes of the block list |
/// | 16 | 85 | wrapped data key |
/// | 101 | 20 | nonce prefix |
/// | 121 | 4 | CRC-32 of the bytes 0..121 |
/// | 125 | | the facts, sealed (part 0) |
/// | | | the block list, sealed (part 1) |
/// | end − 4 | 4 | CRC-32 of everything before |
///
/// A void manifest goes on after the kind: 8 bytes time in milliseconds since 1970, signed; CRC-32 of the bytes 0..16.
struct Header {
    facts_bytes: usize,
    blocks_bytes: usize,
    wrapped_key: WrappedKey,
    prefix: NoncePrefix,
}

impl Manifest {
    /// Makes the object. `keys` are those of the head's wrapped key.
    pub(super) fn encode(&self, keys: &BackupKeys, snapshot: &SnapshotRef) -> Bytes {
        let facts = facts::encode(&self.head);
        let blocks = blocks::encode(self);
        let wrapped_key = self.head.wrapped_key.to_bytes();
        let parts = [snapshot.snapshot_id().as_bytes(), &wrapped_key, &facts, &blocks];
        let prefix = NoncePrefix::derive(keys, "manifest", parts);
        let sealer = Sealer::new(&keys.manifest_seal);
        let seal = |number: u32, plain: &[u8]| {
            let aad = aad(snapshot, number, &wrapped_key);
            sealer.seal(
                Part {
                    prefix,
                    number,
                    aad: &aad,
                },
                plain,
            )
        };
        let (facts, blocks) = (seal(FACTS_PART, &facts), seal(BLOCKS_PART, &blocks));

        let mut out = Vec::with_capacity(HEADER_BYTES + facts.len() + blocks.len() + CRC_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&KIND_COMPLETE.to_le_bytes());
        out.extend_from_slice(&section_bytes(&facts).to_le_bytes());
        out.extend_from_slice(&section_bytes(&blocks).to_le_bytes());
        out.extend_from_slice(&wrapped_key);
        out.extend_from_slice(&prefix.0);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        assert!(out.len() == HEADER_BYTES, "header of {} bytes", out.len());
        out.extend_from_slice(&facts);
        out.extend_from_slice(&blocks);
        out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
        Bytes::from(out)
    }

    /// Opens a whole object, checking every byte of it.
    pub(super) fn decode(
        cluster_key: &ClusterKey,
        snapshot: &SnapshotRef,
        object: &[u8],
    ) -> Result<Decoded<Self>, Flaw> {
        let head = match decode_head(cluster_key, snapshot, object)? {
            Decoded::Void { voided_at } if object.len() == VOID_BYTES => {
                return Ok(Decoded::Void { voided_at });
            }
            Decoded::Void { .. } => return Err(wrong_length(VOID_BYTES, object)),
            Decoded::Complete(head) => head,
        };
        let header = decode_header(object)?;
        let blocks_at = HEADER_BYTES + header.facts_bytes;
        let crc_at = blocks_at + header.blocks_bytes;
        if object.len() != crc_at + CRC_BYTES {
            return Err(wrong_length(crc_at + CRC_BYTES, object));
        }
        let keys = cluster_key
            .unwrap(snapshot.volume_id(), &header.wrapped_key)?
            .backup_keys();
        let aad = aad(snapshot, BLOCKS_PART, &header.wrapped_key.to_bytes());
        let part = Part {
            prefix: header.prefix,
            number: BLOCKS_PART,
            aad: &aad,
        };
        let plain = Sealer::new(&keys.manifest_seal)
            .open(part, &object[blocks_at..crc_at])
            .ok_or(Flaw::Blocks)?;
        let manifest = blocks::decode(head, &plain).ok_or(Flaw::Blocks)?;
        if crc32fast::hash(&object[..crc_at]).to_le_bytes() != object[crc_at..] {
            return Err(Flaw::Trailer);
        }
        Ok(Decoded::Complete(manifest))
    }

    /// The blocks that hold data, each with its index in the volume.
    pub(super) fn data_blocks(&self) -> impl Iterator<Item = (usize, Address, &str)> {
        self.blocks
            .iter()
            .enumerate()
            .filter_map(|(index, block)| match block {
                BlockRef::Undefined | BlockRef::Zero => None,
                BlockRef::Data { address, writer } => {
                    Some((index, *address, self.writers[*writer as usize].as_str()))
                }
            })
    }

    /// Hash of size and content.
    pub(super) fn content_digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.head.size_bytes.to_le_bytes());
        for block in &self.blocks {
            match block {
                BlockRef::Undefined | BlockRef::Zero => hasher.update(&[0]),
                BlockRef::Data { address, .. } => hasher.update(&[1]).update(&address.0),
            };
        }
        hasher.finalize().to_hex().to_string()
    }
}

/// Opens the front of a manifest: all of it, or its first [`HEAD_BYTES`] and what [`facts_end`] says is missing.
pub(super) fn decode_head(
    cluster_key: &ClusterKey,
    snapshot: &SnapshotRef,
    front: &[u8],
) -> Result<Decoded<ManifestHead>, Flaw> {
    if let Some(voided_at) = decode_void(front)? {
        return Ok(Decoded::Void { voided_at });
    }
    let header = decode_header(front)?;
    let end = HEADER_BYTES + header.facts_bytes;
    let sealed = front
        .get(HEADER_BYTES..end)
        .ok_or_else(|| wrong_length(end, front))?;
    let keys = cluster_key
        .unwrap(snapshot.volume_id(), &header.wrapped_key)?
        .backup_keys();
    let aad = aad(snapshot, FACTS_PART, &header.wrapped_key.to_bytes());
    let part = Part {
        prefix: header.prefix,
        number: FACTS_PART,
        aad: &aad,
    };
    let plain = Sealer::new(&keys.manifest_seal)
        .open(part, sealed)
        .ok_or(Flaw::Facts)?;
    let head = facts::decode(&plain, header.wrapped_key).ok_or(Flaw::Facts)?;
    if head.volume_id != snapshot.volume_id() || head.snapshot_id != snapshot.snapshot_id() {
        return Err(Flaw::Facts);
    }
    Ok(Decoded::Complete(head))
}

/// Where the facts of a complete manifest end, if its header can be read.
pub(super) fn facts_end(front: &[u8]) -> Option<u64> {
    decode_header(front)
        .ok()
        .map(|header| (HEADER_BYTES + header.facts_bytes) as u64)
}

/// Makes a void manifest.
pub(super) fn encode_void(voided_at: Timestamp) -> Bytes {
    let mut out = Vec::with_capacity(VOID_BYTES);
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&KIND_VOID.to_le_bytes());
    out.extend_from_slice(&voided_at.as_millisecond().to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&out).to_le_bytes());
    assert!(out.len() == VOID_BYTES, "void manifest of {} bytes", out.len());
    Bytes::from(out)
}

/// Length of [`encode_void`]'s object; every complete manifest is longer.
pub(super) const VOID_OBJECT_BYTES: u64 = VOID_BYTES as u64;

fn check_version(bytes: &[u8], needed: usize) -> Result<(), Flaw> {
    if !bytes.starts_with(&MAGIC) {
        return Err(if bytes.len() < MAGIC.len() {
            wrong_length(needed, bytes)
        } else {
            Flaw::Magic
        });
    }
    let version = bytes.get(4..6).ok_or_else(|| wrong_length(needed, bytes))?;
    let version = u16::from_le_bytes([version[0], version[1]]);
    if version == VERSION {
        Ok(())
    } else {
        Err(Flaw::Version { version })
    }
}

fn decode_void(bytes: &[u8]) -> Result<Option<Timestamp>, Flaw> {
    check_version(bytes, VOID_BYTES)?;
    if bytes.get(6..8) != Some(KIND_VOID.to_le_bytes().as_slice()) {
        return Ok(None);
    }
    let bytes = bytes
        .get(..VOID_BYTES)
        .ok_or_else(|| wrong_length(VOID_BYTES, bytes))?;
    let (body, crc) = bytes.split_at(VOID_BYTES - CRC_BYTES);
    let (_, time) = body.split_last_chunk::<8>().ok_or(Flaw::Header)?;
    if crc32fast::hash(body).to_le_bytes() != crc {
        return Err(Flaw::Header);
    }
    Timestamp::from_millisecond(i64::from_le_bytes(*time))
        .map(Some)
        .map_err(|_| Flaw::Header)
}

fn decode_header(bytes: &[u8]) -> Result<Header, Flaw> {
    check_version(bytes, HEADER_BYTES)?;
    let bytes = bytes
        .get(..HEADER_BYTES)
        .ok_or_else(|| wrong_length(HEADER_BYTES, bytes))?;
    if crc32fast::hash(&bytes[..CRC_AT]).to_le_bytes() != bytes[CRC_AT..]
        || bytes[6..8] != KIND_COMPLETE.to_le_bytes()
    {
        return Err(Flaw::Header);
    }
    let facts_bytes = u32_at(bytes, 8);
    if !(TAG_BYTES..=FACTS_BYTES_MAX).contains(&facts_bytes) {
        return Err(Flaw::Header);
    }
    let mut prefix = [0; NONCE_PREFIX_BYTES];
    prefix.copy_from_slice(&bytes[NONCE_AT..CRC_AT]);
    Ok(Header {
        facts_bytes,
        blocks_bytes: u32_at(bytes, 12),
        wrapped_key: WrappedKey::from_bytes(&bytes[KEY_AT..NONCE_AT])?,
        prefix: NoncePrefix(prefix),
    })
}

/// Binds a section to its snapshot, its number and the key that opens it.
fn aad(snapshot: &SnapshotRef, number: u32, wrapped_key: &[u8]) -> Vec<u8> {
    let (volume_id, snapshot_id) = (snapshot.volume_id().as_bytes(), snapshot.snapshot_id().as_bytes());
    [
        b"hangar-manifest-1:",
        volume_id,
        b":",
        snapshot_id,
        b":",
        &number.to_le_bytes(),
        wrapped_key,
    ]
    .concat()
}

fn section_bytes(sealed: &[u8]) -> u32 {
    // 36 bytes a block: 4 GiB of them are a volume of half an exabyte.
    u32::try_from(sealed.len()).unwrap_or_else(|_| unreachable!("manifest section of {} bytes", sealed.len()))
}

fn wrong_length(expected: usize, found: &[u8]) -> Flaw {
    Flaw::Length {
        expected_bytes: expected as u64,
        found_bytes: found.len() as u64,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word) as usize
}

#[cfg(test)]
mod tests;
