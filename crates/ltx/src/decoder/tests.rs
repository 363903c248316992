use super::*;
use crate::tests::samples::{Pages, change, decode, encode, pgno, snapshot};
use crate::{PageOrderError, PostApplyError};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use std::io::Write;

const DATA: [u8; 512] = [7; 512];

/// A file whose own checksum is right, whatever its pages are.
fn craft(header: Header, numbers: &[u32], post_apply: Checksum) -> Vec<u8> {
    let mut file = header.encode().to_vec();
    for number in numbers {
        file.extend_from_slice(&number.to_be_bytes());
        file.extend_from_slice(&DATA);
    }
    file.extend_from_slice(&[0; 4]);
    sign(file, post_apply)
}

fn sign(mut file: Vec<u8>, post_apply: Checksum) -> Vec<u8> {
    file.extend_from_slice(&post_apply.bits().to_be_bytes());
    let mut sum = Running::new();
    sum.update(&file);
    file.extend_from_slice(&sum.checksum().bits().to_be_bytes());
    file
}

fn sum(numbers: &[u32]) -> Checksum {
    numbers
        .iter()
        .map(|number| Checksum::of_page(pgno(*number), &DATA))
        .fold(Checksum::EMPTY_DATABASE, Checksum::toggle)
}

fn order_error(header: Header, numbers: &[u32]) -> (u64, PageOrderError) {
    let file = craft(header, numbers, sum(numbers));
    match verify(&file[..], Version::V1).unwrap_err() {
        DecodeError::Page { offset, source } => (offset, source),
        other => panic!("{other:?}"),
    }
}

#[test]
fn pages_out_of_order_are_refused_although_the_checksum_is_right() {
    assert!(verify(&craft(change(9), &[2, 5], sum(&[]))[..], Version::V1).is_ok());
    let second = 100 + 4 + 512;
    for number in [1, 2] {
        let pgno = pgno(number);
        assert_eq!(
            order_error(change(9), &[2, number]),
            (second, PageOrderError::Order { pgno, last: 2 })
        );
    }
    let (pgno, commit_pages) = (pgno(10), 9);
    assert_eq!(
        order_error(change(9), &[10]),
        (100, PageOrderError::BeyondCommit { pgno, commit_pages })
    );
}

#[test]
fn the_lock_page_is_refused() {
    let pgno = change(1).page_size.lock_page();
    assert_eq!(
        order_error(change(u32::MAX), &[pgno.get()]),
        (100, PageOrderError::LockPage { pgno })
    );
}

#[test]
fn a_snapshot_with_a_hole_or_without_its_end_is_refused() {
    let gap = |number, expected| PageOrderError::SnapshotGap {
        pgno: pgno(number),
        expected,
    };
    assert_eq!(order_error(snapshot(3), &[2, 3]), (100, gap(2, 1)));
    assert_eq!(order_error(snapshot(3), &[1, 3]), (616, gap(3, 2)));
    let (missing, commit_pages) = (3, 3);
    assert_eq!(
        order_error(snapshot(3), &[1, 2]),
        (
            1132,
            PageOrderError::SnapshotEnd {
                missing,
                commit_pages
            }
        )
    );
}

#[test]
fn a_checksum_that_the_pages_do_not_give_is_refused() {
    let check = |header, numbers: &[u32], post_apply| {
        let file = craft(header, numbers, post_apply);
        match verify(&file[..], Version::V1).unwrap_err() {
            DecodeError::PostApply(error) => error,
            other => panic!("{other:?}"),
        }
    };
    let (post_apply, expected) = (sum(&[1]), sum(&[1, 2]));
    assert_eq!(
        check(snapshot(2), &[1, 2], post_apply),
        PostApplyError::Differs { post_apply, expected }
    );
    let expected = Checksum::EMPTY_DATABASE;
    assert_eq!(
        check(change(0), &[], post_apply),
        PostApplyError::Differs { post_apply, expected }
    );
    let post_apply = Checksum::from_bits(7);
    assert_eq!(
        check(change(2), &[2], post_apply),
        PostApplyError::Missing { post_apply }
    );
}

#[test]
fn a_file_checksum_is_told_with_both_values() {
    let mut file = craft(change(2), &[2], sum(&[]));
    let last = file.len() - 1;
    file[last] ^= 1;
    match verify(&file[..], Version::V1).unwrap_err() {
        DecodeError::FileChecksum { stored, computed } => assert_eq!(stored.bits() ^ 1, computed.bits()),
        other => panic!("{other:?}"),
    }
}

/// A compressed file, its page block in a frame of another form and with `more` at its end.
fn compressed(info: FrameInfo, more: &[u8]) -> Vec<u8> {
    let header = Header {
        flags: Flags::LZ4,
        ..change(400)
    };
    let numbers: Vec<u32> = (1..=400).collect();
    let plain = craft(header, &numbers, sum(&[]));
    let (pages, trailer) = plain[100..].split_at(plain.len() - 100 - 16);
    let mut frame = FrameEncoder::with_frame_info(info, plain[..100].to_vec());
    frame.write_all(pages).unwrap();
    frame.write_all(more).unwrap();
    let mut file = frame.finish().unwrap();
    file.extend_from_slice(trailer);
    file
}

#[test]
fn lz4_frames_of_every_form_are_read() {
    let bytes = 400 * (4 + 512) + 4;
    for info in [
        FrameInfo::new(),
        FrameInfo::new()
            .block_mode(BlockMode::Linked)
            .block_size(BlockSize::Max64KB),
        FrameInfo::new()
            .block_size(BlockSize::Max4MB)
            .block_checksums(true),
        FrameInfo::new().content_size(Some(bytes)).content_checksum(true),
    ] {
        let decoded = verify(&compressed(info, &[])[..], Version::V1).unwrap();
        assert_eq!(decoded.page_count, 400);
    }
}

#[test]
fn bytes_behind_the_pages_within_a_frame_are_refused() {
    let file = compressed(FrameInfo::new(), &[0]);
    let error = verify(&file[..], Version::V1).unwrap_err();
    assert!(matches!(
        error,
        DecodeError::FrameEnd {
            part: Part::PageEnd,
            ..
        }
    ));
}

/// A file of version 3 that ends within its first page, whose header has `flags` and is followed by `rest`.
fn version_3(flags: u16, rest: &[u8]) -> DecodeError {
    let mut file = change(3).encode().to_vec();
    file.extend_from_slice(&2u32.to_be_bytes());
    file.extend_from_slice(&flags.to_be_bytes());
    file.extend_from_slice(rest);
    verify(&file[..], Version::V3).unwrap_err()
}

#[test]
fn a_page_s_claimed_length_is_not_believed() {
    for stored in [u32::MAX, 512 + 2 + 16 + 1] {
        let error = version_3(1, &stored.to_be_bytes());
        assert!(matches!(
            error,
            DecodeError::StoredPage { offset: 110, stored: found, .. } if found == stored
        ));
    }
    // What a page may at most have is read, and found to be missing.
    let error = version_3(1, &(512u32 + 2 + 16).to_be_bytes());
    assert!(matches!(
        error,
        DecodeError::Truncated {
            part: Part::Page(_),
            ..
        }
    ));
}

#[test]
fn a_page_of_another_length_than_a_page_is_refused() {
    let block = |bytes: &[u8]| {
        let compressed = lz4_flex::block::compress(bytes);
        let mut rest = u32::try_from(compressed.len()).unwrap().to_be_bytes().to_vec();
        rest.extend_from_slice(&compressed);
        version_3(1, &rest)
    };
    assert!(matches!(
        block(&DATA[1..]),
        DecodeError::ShortPage { bytes: 511, .. }
    ));
    assert!(matches!(block(&[7; 513]), DecodeError::Lz4 { .. }));
    let frame = |bytes: &[u8]| {
        let mut frame = FrameEncoder::new(Vec::new());
        frame.write_all(bytes).unwrap();
        version_3(0, &frame.finish().unwrap())
    };
    assert!(matches!(frame(&DATA[1..]), DecodeError::Truncated { .. }));
    assert!(matches!(frame(&[7; 513]), DecodeError::FrameEnd { .. }));
}

#[test]
fn page_flags_that_nobody_knows_are_refused() {
    let error = version_3(2, &[]);
    assert!(matches!(
        error,
        DecodeError::PageFlags {
            offset: 100,
            flags: 2
        }
    ));
}

/// Fails once the bytes are used up, as a connection does that is cut.
struct Cut<'a>(&'a [u8]);

impl Read for Cut<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.0.read(bytes) {
            Ok(0) => Err(io::ErrorKind::ConnectionReset.into()),
            other => other,
        }
    }
}

#[test]
fn an_input_that_fails_is_no_damage() {
    for flags in [Flags::NONE, Flags::LZ4] {
        let pages = Pages::from([(2, DATA.to_vec())]);
        let file = encode(Header { flags, ..change(3) }, &pages, sum(&[]));
        for length in 0..=file.len() {
            let error = verify(Cut(&file[..length]), Version::V1).unwrap_err();
            assert!(!error.is_damage(), "{length}: {error:?}");
        }
    }
}

#[test]
fn a_decoder_that_failed_does_not_go_on() {
    let file = craft(change(9), &[10, 5], sum(&[]));
    let mut decoder = Decoder::new(&file[..], Version::V1).unwrap();
    let mut data = Vec::new();
    assert!(decoder.next_page(&mut data).is_err());
    assert!(matches!(decoder.next_page(&mut data), Err(DecodeError::Broken)));
    assert!(matches!(decoder.finish(), Err(DecodeError::Broken)));
}

#[test]
fn the_end_of_the_pages_is_told_as_often_as_it_is_asked_for() {
    let file = craft(change(9), &[3], sum(&[]));
    let mut decoder = Decoder::new(&file[..], Version::V1).unwrap();
    let mut data = Vec::new();
    assert_eq!(decoder.next_page(&mut data).unwrap(), Some(pgno(3)));
    assert_eq!(data, DATA);
    assert_eq!(decoder.next_page(&mut data).unwrap(), None);
    assert_eq!(decoder.next_page(&mut data).unwrap(), None);
    assert_eq!(decoder.finish().unwrap(), decode(&file, Version::V1).unwrap().1);
}
