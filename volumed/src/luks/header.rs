//! The LUKS1 header, its byte table.

use super::{HEADER_BYTES, LuksError, SECTOR_BYTES};

/// Key of AES-256-XTS.
pub(super) const MASTER_KEY_BYTES: usize = 64;
pub(super) const DIGEST_BYTES: usize = 20;
pub(super) const SALT_BYTES: usize = 32;
pub(super) const KEY_SLOTS: usize = 8;
pub(super) const STRIPES: usize = 4_000;

const MAGIC: [u8; 6] = *b"LUKS\xba\xbe";
const VERSION: u16 = 1;
const CIPHER_NAME: &str = "aes";
const CIPHER_MODE: &str = "xts-plain64";
const HASH: &str = "sha256";
const NAME_BYTES: usize = 32;
const UUID_BYTES: usize = 40;
const SLOT_ACTIVE: u32 = 0x00ac_71f3;
const SLOT_FREE: u32 = 0x0000_dead;
const SLOT_BYTES: usize = 48;
const SLOTS_AT: usize = 208;
const END: usize = SLOTS_AT + KEY_SLOTS * SLOT_BYTES;
/// A slot's material is 500 sectors; QEMU and cryptsetup start each at a multiple of 4 KiB.
const FIRST_MATERIAL_SECTORS: usize = 8;
const MATERIAL_STEP_SECTORS: usize = 504;
const SECTOR_LEN: usize = 512;

const _: () = assert!(MASTER_KEY_BYTES * STRIPES <= MATERIAL_STEP_SECTORS * SECTOR_LEN);
const _: () = assert!(
    ((FIRST_MATERIAL_SECTORS + KEY_SLOTS * MATERIAL_STEP_SECTORS) * SECTOR_LEN) as u64 <= HEADER_BYTES
);

/// A LUKS1 header of the one kind that volumes have. All numbers are big endian.
///
/// | offset | bytes | field |
/// |---|---|---|
/// | 0 | 6 | `LUKS` 0xba 0xbe |
/// | 6 | 2 | version, 1 |
/// | 8 | 32 | cipher name, `aes` |
/// | 40 | 32 | cipher mode, `xts-plain64` |
/// | 72 | 32 | hash, `sha256` |
/// | 104 | 4 | payload offset, in sectors of 512 bytes |
/// | 108 | 4 | master key bytes, 64 |
/// | 112 | 20 | PBKDF2 digest of the master key |
/// | 132 | 32 | its salt |
/// | 164 | 4 | its iterations |
/// | 168 | 40 | UUID, text |
/// | 208 | 8 × 48 | key slots |
///
/// A key slot: state (4; 0x00ac71f3 active, 0x0000dead free), iterations (4), salt (32), offset of its material in
/// sectors (4), stripes (4; 4,000).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) payload_offset_sectors: u32,
    pub(super) digest: [u8; DIGEST_BYTES],
    pub(super) digest_salt: [u8; SALT_BYTES],
    pub(super) digest_rounds: u32,
    pub(super) uuid: String,
    pub(super) slots: [KeySlot; KEY_SLOTS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeySlot {
    pub(super) active: bool,
    pub(super) rounds: u32,
    pub(super) salt: [u8; SALT_BYTES],
    pub(super) material_offset_sectors: u32,
}

impl KeySlot {
    /// Slot number `index`, unused, at its usual place.
    pub(super) fn free(index: usize) -> Self {
        let sectors = FIRST_MATERIAL_SECTORS + index * MATERIAL_STEP_SECTORS;
        Self {
            active: false,
            rounds: 0,
            salt: [0; SALT_BYTES],
            material_offset_sectors: u32::try_from(sectors).unwrap_or(u32::MAX),
        }
    }

    pub(super) fn material_offset_bytes(&self) -> usize {
        self.material_offset_sectors as usize * SECTOR_LEN
    }
}

impl Header {
    pub(super) fn payload_offset_bytes(&self) -> u64 {
        u64::from(self.payload_offset_sectors) * SECTOR_BYTES
    }

    /// Writes the header to the front of `out`.
    pub(super) fn encode(&self, out: &mut [u8]) {
        assert!(out.len() >= END, "header needs {END} bytes, has {}", out.len());
        out[..6].copy_from_slice(&MAGIC);
        out[6..8].copy_from_slice(&VERSION.to_be_bytes());
        put_text(&mut out[8..40], CIPHER_NAME);
        put_text(&mut out[40..72], CIPHER_MODE);
        put_text(&mut out[72..104], HASH);
        out[104..108].copy_from_slice(&self.payload_offset_sectors.to_be_bytes());
        put_u32(out, 108, MASTER_KEY_BYTES);
        out[112..132].copy_from_slice(&self.digest);
        out[132..164].copy_from_slice(&self.digest_salt);
        out[164..168].copy_from_slice(&self.digest_rounds.to_be_bytes());
        put_text(&mut out[168..168 + UUID_BYTES], &self.uuid);
        for (slot, out) in self
            .slots
            .iter()
            .zip(out[SLOTS_AT..END].chunks_exact_mut(SLOT_BYTES))
        {
            let state = if slot.active { SLOT_ACTIVE } else { SLOT_FREE };
            out[..4].copy_from_slice(&state.to_be_bytes());
            out[4..8].copy_from_slice(&slot.rounds.to_be_bytes());
            out[8..40].copy_from_slice(&slot.salt);
            out[40..44].copy_from_slice(&slot.material_offset_sectors.to_be_bytes());
            put_u32(out, 44, STRIPES);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, LuksError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(LuksError::NotLuks);
        }
        if bytes.len() < END {
            return Err(LuksError::Short {
                got_bytes: bytes.len() as u64,
                expected_bytes: END as u64,
            });
        }
        let supported = [
            (
                u32::from(bytes[6]) << 8 | u32::from(bytes[7]) == u32::from(VERSION),
                "version",
            ),
            (
                text(&bytes[8..8 + NAME_BYTES]) == CIPHER_NAME.as_bytes(),
                "cipher",
            ),
            (
                text(&bytes[40..40 + NAME_BYTES]) == CIPHER_MODE.as_bytes(),
                "cipher mode",
            ),
            (text(&bytes[72..72 + NAME_BYTES]) == HASH.as_bytes(), "hash"),
            (u32_at(bytes, 108) as usize == MASTER_KEY_BYTES, "key length"),
            (u32_at(bytes, 164) > 0, "digest iterations"),
        ];
        if let Some((_, field)) = supported.into_iter().find(|(right, _)| !right) {
            return Err(LuksError::Unsupported { field });
        }
        let mut slots = [KeySlot::free(0); KEY_SLOTS];
        for (slot, bytes) in slots
            .iter_mut()
            .zip(bytes[SLOTS_AT..END].chunks_exact(SLOT_BYTES))
        {
            *slot = decode_slot(bytes)?;
        }
        Ok(Self {
            payload_offset_sectors: u32_at(bytes, 104),
            digest: array(&bytes[112..132]),
            digest_salt: array(&bytes[132..164]),
            digest_rounds: u32_at(bytes, 164),
            uuid: String::from_utf8_lossy(text(&bytes[168..168 + UUID_BYTES])).into_owned(),
            slots,
        })
    }
}

fn decode_slot(bytes: &[u8]) -> Result<KeySlot, LuksError> {
    let active = match u32_at(bytes, 0) {
        SLOT_ACTIVE => true,
        SLOT_FREE => false,
        _ => {
            return Err(LuksError::Unsupported {
                field: "key slot state",
            });
        }
    };
    let rounds = u32_at(bytes, 4);
    if active && (rounds == 0 || u32_at(bytes, 44) as usize != STRIPES) {
        return Err(LuksError::Unsupported { field: "key slot" });
    }
    Ok(KeySlot {
        active,
        rounds,
        salt: array(&bytes[8..40]),
        material_offset_sectors: u32_at(bytes, 40),
    })
}

fn put_text(out: &mut [u8], text: &str) {
    out.fill(0);
    out[..text.len()].copy_from_slice(text.as_bytes());
}

fn put_u32(out: &mut [u8], at: usize, value: usize) {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(&bytes[at..at + 4]))
}

fn array<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}
