//! Damage to any byte of a file is noticed, or changes nothing.

use super::samples::{change, decode, encode, recorded};
use crate::{Checksum, Flags, Header, Version};
use proptest::prelude::*;

/// Files of every form, each a few hundred bytes to a few KiB.
fn samples() -> Vec<(&'static str, Version, Vec<u8>)> {
    let empty = encode(
        Header {
            flags: Flags::LZ4,
            ..change(5)
        },
        &Default::default(),
        Checksum::EMPTY_DATABASE,
    );
    vec![
        ("snapshot, lz4", Version::V1, recorded!("v1-chain-1")),
        ("commit, plain", Version::V1, recorded!("v1-chain-2")),
        ("commit, lz4", Version::V1, recorded!("v1-chain-3")),
        ("deletion, lz4", Version::V1, recorded!("v1-chain-5")),
        ("no page, lz4", Version::V1, empty),
        ("snapshot, plain", Version::V1, recorded!("v1-merged-1-4")),
        ("blocks", Version::V3, recorded!("v3-blocks-snapshot")),
        (
            "blocks, unchecked",
            Version::V3,
            recorded!("v3-blocks-without-checksums"),
        ),
        ("frames", Version::V3, recorded!("v3-frames-snapshot")),
        (
            "frames, unchecked",
            Version::V3,
            recorded!("v3-frames-without-checksums"),
        ),
    ]
}

/// Decodes a damaged file: it must be refused as damaged, or say the same as the sound one.
fn check(name: &str, version: Version, sound: &[u8], damaged: &[u8], what: &str) -> bool {
    match decode(damaged, version) {
        Ok(decoded) => {
            assert_eq!(decoded, decode(sound, version).unwrap(), "{name}: {what}");
            false
        }
        Err(error) => {
            assert!(error.is_damage(), "{name}: {what}: {error:?}");
            true
        }
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_harmless() {
    for (name, version, sound) in samples() {
        let mut file = sound.clone();
        for at in 0..file.len() {
            for bit in 0..8 {
                file[at] ^= 1 << bit;
                let noticed = check(name, version, &sound, &file, &format!("bit {bit} of byte {at}"));
                // Two compressed forms may stand for the same bytes; nothing else is said twice.
                let compressed = !name.ends_with("plain") && (100..sound.len() - 24).contains(&at);
                assert!(
                    noticed || compressed,
                    "{name}: bit {bit} of byte {at} may be flipped unnoticed"
                );
                file[at] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn every_truncation_and_every_byte_too_many_is_noticed() {
    for (name, version, sound) in samples() {
        for length in 0..sound.len() {
            let noticed = check(
                name,
                version,
                &sound,
                &sound[..length],
                &format!("cut to {length}"),
            );
            assert!(noticed, "{name}: may be cut to {length} bytes unnoticed");
        }
        for more in [0, 1, 0xff] {
            let mut file = sound.clone();
            file.push(more);
            assert!(check(name, version, &sound, &file, "one byte more"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn prop_overwritten_moved_and_missing_bytes_are_noticed_or_harmless(
        which in any::<prop::sample::Index>(),
        from in any::<prop::sample::Index>(),
        to in any::<prop::sample::Index>(),
        fill in prop::collection::vec(any::<u8>(), 0..40),
        copy in any::<bool>(),
    ) {
        let samples = samples();
        let (name, version, sound) = which.get(&samples);
        let (from, to) = (from.index(sound.len()), to.index(sound.len()));
        let mut file = sound.clone();
        if copy {
            let length = fill.len().min(sound.len() - from).min(sound.len() - to);
            file.copy_within(from..from + length, to);
        } else {
            file.splice(from.min(to)..from.max(to), fill);
        }
        check(name, *version, sound, &file, "spliced");
    }

    #[test]
    fn prop_bytes_of_no_file_are_refused(
        version in prop::sample::select(vec![Version::V1, Version::V3]),
        sound in prop::sample::select(samples()),
        tail in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        prop_assert!(decode(&tail, version).is_err());
        let mut file = sound.2[..100].to_vec();
        file.extend_from_slice(&tail);
        prop_assert!(decode(&file, sound.1).is_err());
    }
}
