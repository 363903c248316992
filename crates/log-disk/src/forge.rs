//! PURE. Sealed rightly and saying whatever they like: for showing that readers bear what a seal does not keep out.

use crate::compression::compress;
use crate::fields::{Fields, Sink};
use crate::seal::{Kind, Place, Salt};
use crate::units::Epoch;
use crate::{Compression, Sealer};

/// Reads a place out of clear bytes: where its salt, epoch and number stand.
fn place(clear: &[u8], salt: usize, epoch: usize, number: usize, part: u32) -> Option<Place> {
    let at = |from: usize| clear.get(from..).map(Fields::new);
    Some(Place {
        salt: Salt(at(salt)?.array()?),
        epoch: Epoch(at(epoch)?.u32()?),
        number: at(number)?.u64()?,
        part,
    })
}

fn with_crc(mut out: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&out);
    out.put_u32(crc);
    out
}

/// Makes the first page of a record: the 64 clear bytes at the begin of `page`, and a table.
#[must_use]
pub fn record(sealer: &Sealer, page: &[u8], table: &[u8]) -> Option<Vec<u8>> {
    let mut out = page.get(..64)?.to_vec();
    let table = &table[..table.len().min(4092 - 64 - 16)];
    out[60..64].copy_from_slice(&u32::try_from(table.len() + 16).ok()?.to_le_bytes());
    let sealed = sealer.seal(Kind::Journal, place(&out, 48, 24, 32, 0)?, &out, table);
    out.put(&sealed);
    out.resize(4092, 0);
    Some(with_crc(out))
}

/// Makes the front of an object: everything before the table, and a table.
#[must_use]
pub fn object(sealer: &Sealer, clear: &[u8], table: &[u8]) -> Option<Vec<u8>> {
    let mut out = clear.to_vec();
    let sealed = sealer.seal(Kind::Object, place(clear, 72, 24, 32, 0)?, clear, table);
    out.put(&sealed);
    Some(with_crc(out))
}

/// Makes the stored bytes of extent `index` of the object with these clear bytes; `aad` is its LBA, blocks and codec.
#[must_use]
pub fn extent(sealer: &Sealer, clear: &[u8], index: u32, aad: &[u8], packed: &[u8]) -> Option<Vec<u8>> {
    let place = place(clear, 72, 24, 32, index.checked_add(1)?)?;
    Some(sealer.seal(Kind::Object, place, aad, packed))
}

/// Returns bytes as an extent would have them compressed, whether that is worth it or not.
#[must_use]
pub fn packed(plain: &[u8], compression: Compression) -> Vec<u8> {
    compress(plain, compression).1
}

/// Makes the front of a checkpoint: the 88 clear bytes, the index and the table of objects.
#[must_use]
pub fn checkpoint(sealer: &Sealer, clear: &[u8], index: &[u8], table: &[u8]) -> Option<Vec<u8>> {
    let mut out = clear.get(..88)?.to_vec();
    out[28..32].copy_from_slice(&u32::try_from(index.len() + 16).ok()?.to_le_bytes());
    out[64..72].copy_from_slice(&((table.len() + 16) as u64).to_le_bytes());
    for (part, plain) in [(0, index), (1, table)] {
        let sealed = sealer.seal(Kind::Map, place(clear, 80, 24, 32, part)?, &out, plain);
        out.put(&sealed);
    }
    Some(with_crc(out))
}

/// Makes a HEAD of everything before its seal.
#[must_use]
pub fn head(sealer: &Sealer, body: &[u8]) -> Option<Vec<u8>> {
    let mut out = body.to_vec();
    let seal = sealer.seal(Kind::Head, place(body, 60, 40, 24, 0)?, body, &[]);
    out.put(&seal);
    Some(with_crc(out))
}
