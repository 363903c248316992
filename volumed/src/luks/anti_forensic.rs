//! LUKS's anti-forensic splitter: a key blown up so that a disk that forgets any part of it has forgotten it all.

use sha2::{Digest, Sha256};

use crate::random::Random;

const HASH_BYTES: usize = 32;

/// Blows `key` up to `stripes` times its length.
///
/// All stripes but the last are random; the last is the key, masked by what diffusing the others left.
pub(super) fn split(key: &[u8], stripes: usize, random: &dyn Random) -> Vec<u8> {
    assert!(stripes > 0, "a split key has at least one stripe");
    let mut material = vec![0; key.len() * stripes];
    let (noise, last) = material.split_at_mut(key.len() * (stripes - 1));
    random.fill(noise);
    let mut mask = vec![0; key.len()];
    for stripe in noise.chunks_exact(key.len()) {
        xor(&mut mask, stripe);
        diffuse(&mut mask);
    }
    last.copy_from_slice(key);
    xor(last, &mask);
    material
}

/// Restores the key of `key.len()` bytes that `material` was split from.
pub(super) fn merge(material: &[u8], key: &mut [u8]) {
    assert!(
        !material.is_empty() && material.len().is_multiple_of(key.len()),
        "{} bytes are no stripes of {}",
        material.len(),
        key.len()
    );
    let (noise, last) = material.split_at(material.len() - key.len());
    key.fill(0);
    for stripe in noise.chunks_exact(key.len()) {
        xor(key, stripe);
        diffuse(key);
    }
    xor(key, last);
}

fn xor(left: &mut [u8], right: &[u8]) {
    for (left, right) in left.iter_mut().zip(right) {
        *left ^= right;
    }
}

/// Replaces every part of a digest's length by the digest of its number and itself.
fn diffuse(bytes: &mut [u8]) {
    for (number, part) in (0_u32..).zip(bytes.chunks_mut(HASH_BYTES)) {
        let digest = Sha256::new()
            .chain_update(number.to_be_bytes())
            .chain_update(&*part)
            .finalize();
        part.copy_from_slice(&digest[..part.len()]);
    }
}
