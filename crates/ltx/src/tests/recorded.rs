//! Files that other programs wrote are read, and written alike.

use super::samples::{Pages, decode, encode, recorded, recorded_page};
use crate::{Decoded, Flags, Txid, Version, WalSpan, compact};

/// Reads a recorded file and writes it again: alike where it is not compressed, else alike but for the compression.
fn check(file: &[u8]) -> (Pages, Decoded) {
    const LZ4_FRAME_HEADER_BYTES: usize = 7;
    const END_BYTES: usize = 4 + 4 + 16;
    let (pages, decoded) = decode(file, Version::V1).unwrap();
    let again = encode(decoded.header, &pages, decoded.trailer.post_apply);
    if decoded.header.flags == Flags::LZ4 {
        let head = 100 + LZ4_FRAME_HEADER_BYTES;
        assert_eq!(again[..head], file[..head]);
        // The end mark, the checksum of what was compressed, the trailer.
        assert_eq!(again[again.len() - END_BYTES..], file[file.len() - END_BYTES..]);
        assert_eq!(decode(&again, Version::V1).unwrap(), (pages.clone(), decoded));
    } else {
        assert_eq!(again, file);
    }
    (pages, decoded)
}

fn chain() -> [Vec<u8>; 6] {
    [
        recorded!("v1-chain-1"),
        recorded!("v1-chain-2"),
        recorded!("v1-chain-3"),
        recorded!("v1-chain-4"),
        recorded!("v1-chain-5"),
        recorded!("v1-chain-6"),
    ]
}

fn expected_pages(pages: &[(u32, u64)]) -> Pages {
    pages
        .iter()
        .map(|(number, txid)| (*number, recorded_page(*number, *txid, 512)))
        .collect()
}

#[test]
fn a_commit_that_litefs_wrote_is_read_and_written_alike() {
    let (pages, decoded) = check(&recorded!("v1-litefs-insert"));
    assert_eq!(decoded.pos.to_string(), "0000000000000002/b7bcca91d725233f");
    assert_eq!(decoded.header.pre_apply.to_string(), "f6e9e3d7c3dbb858");
    assert_eq!(decoded.header.node.to_string(), "5F9379EC7AE70F41");
    assert_eq!(decoded.page_count, 2);
    assert!(pages[&1].starts_with(b"SQLite format 3\0"));
    assert_eq!(pages[&2][4095], 100);
}

#[test]
fn a_chain_of_transactions_is_read_and_written_alike() {
    let expected: [&[(u32, u64)]; 6] = [
        &[(1, 1), (2, 1), (3, 1)],
        &[(2, 2)],
        &[(1, 3), (4, 3), (5, 3)],
        &[(1, 4)],
        &[],
        &[(1, 6), (2, 6), (3, 6), (4, 6)],
    ];
    let mut before = Default::default();
    for (file, expected) in chain().iter().zip(expected) {
        let (pages, decoded) = check(file);
        assert_eq!(pages, expected_pages(expected));
        assert_eq!(decoded.header.pre_apply_pos(), before);
        before = decoded.pos;
    }
    let (_, second) = check(&chain()[1]);
    let wal = WalSpan {
        offset_bytes: 568,
        size_bytes: 536,
        salt1: 0x0102_0304,
        salt2: 0xa0b0_c0d0,
    };
    assert_eq!(second.header.wal, Some(wal));
    assert_eq!(second.header.max_txid, Txid::new(2));
}

#[test]
fn pages_on_both_sides_of_the_lock_page_are_read_and_written_alike() {
    let (pages, decoded) = check(&recorded!("v1-around-the-lock-page"));
    assert_eq!(pages, expected_pages(&[(1, 9), (2_097_152, 9), (2_097_154, 9)]));
    assert_eq!(decoded.header.page_size.lock_page().get(), 2_097_153);
}

#[test]
fn files_are_merged_as_the_other_implementation_merges_them() {
    let check = |first: usize, last: usize, flags, expected: Vec<u8>| {
        let chain = chain();
        // Given in any order.
        let inputs = chain[first - 1..last].iter().rev().map(Vec::as_slice);
        let merged = compact(inputs, Vec::new(), flags).unwrap().output;
        if flags == Flags::NONE {
            assert_eq!(merged, expected, "{first} to {last}");
        }
        assert_eq!(
            decode(&merged, Version::V1).unwrap(),
            decode(&expected, Version::V1).unwrap()
        );
    };
    check(1, 4, Flags::NONE, recorded!("v1-merged-1-4"));
    check(2, 3, Flags::NONE, recorded!("v1-merged-2-3"));
    check(2, 6, Flags::NONE, recorded!("v1-merged-2-6"));
    check(1, 3, Flags::LZ4, recorded!("v1-merged-1-3"));
}

#[test]
fn files_of_version_3_are_read_in_both_their_forms() {
    for file in [recorded!("v3-blocks-snapshot"), recorded!("v3-frames-snapshot")] {
        let (pages, decoded) = decode(&file, Version::V3).unwrap();
        assert_eq!(pages, expected_pages(&[(1, 4), (2, 4), (3, 4)]));
        assert!(decoded.header.has_checksums());
        assert_eq!(decoded.trailer.post_apply, super::samples::checksum(&pages));
        assert!(decode(&file, Version::V1).is_err());
    }
    for file in [
        recorded!("v3-blocks-without-checksums"),
        recorded!("v3-frames-without-checksums"),
    ] {
        let (pages, decoded) = decode(&file, Version::V3).unwrap();
        assert_eq!(pages, expected_pages(&[(2, 4), (299, 4)]));
        assert_eq!(decoded.pos.to_string(), "0000000000000004/0000000000000000");
        assert!(!decoded.header.has_checksums());
        assert!(decode(&file, Version::V1).is_err());
    }
}

#[test]
fn the_version_of_every_recorded_file_is_guessed() {
    let check = |file: &[u8], expected| {
        let header = file.first_chunk().unwrap();
        assert_eq!(Version::guess(header, file.len() as u64), expected);
    };
    for file in chain() {
        check(&file, Version::V1);
    }
    check(&recorded!("v1-litefs-insert"), Version::V1);
    check(&recorded!("v1-around-the-lock-page"), Version::V1);
    check(&recorded!("v3-blocks-snapshot"), Version::V3);
    check(&recorded!("v3-frames-snapshot"), Version::V3);
    check(&recorded!("v3-blocks-without-checksums"), Version::V3);
    check(&recorded!("v3-frames-without-checksums"), Version::V3);
}
