use super::*;
use crate::tests::samples::{change, pgno, snapshot};
use crate::{Decoder, PageSize, verify};

const DATA: [u8; 512] = [7; 512];

fn encoder(header: Header) -> Encoder<Vec<u8>> {
    Encoder::new(Vec::new(), header).unwrap()
}

fn refused(encoder: &mut Encoder<Vec<u8>>, number: u32) -> PageOrderError {
    match encoder.page(pgno(number), &DATA).unwrap_err() {
        EncodeError::Page(error) => error,
        other => panic!("{other:?}"),
    }
}

fn sum(numbers: &[u32]) -> Checksum {
    numbers
        .iter()
        .map(|number| Checksum::of_page(pgno(*number), &DATA))
        .fold(Checksum::EMPTY_DATABASE, Checksum::toggle)
}

#[test]
fn a_header_that_breaks_a_rule_writes_nothing() {
    let header = Header {
        max_txid: crate::Txid::ZERO,
        ..change(3)
    };
    let mut output = Vec::new();
    let error = Encoder::new(&mut output, header).unwrap_err();
    assert!(matches!(error, EncodeError::Header(HeaderError::Txids { .. })));
    assert!(output.is_empty());
}

#[test]
fn pages_of_a_change_rise_and_stay_within_the_commit() {
    let mut encoder = encoder(change(6));
    encoder.page(pgno(2), &DATA).unwrap();
    encoder.page(pgno(4), &DATA).unwrap();
    for number in [1, 4] {
        let pgno = pgno(number);
        assert_eq!(
            refused(&mut encoder, number),
            PageOrderError::Order { pgno, last: 4 }
        );
    }
    let beyond = PageOrderError::BeyondCommit {
        pgno: pgno(7),
        commit_pages: 6,
    };
    assert_eq!(refused(&mut encoder, 7), beyond);
    // A refused page leaves the file as it was.
    encoder.page(pgno(6), &DATA).unwrap();
    let encoded = encoder.finish(Checksum::from_bits(u64::MAX)).unwrap();
    assert_eq!(verify(&encoded.output[..], Version::V1).unwrap().page_count, 3);
    assert_eq!(encoded.uncompressed_bytes, encoded.output.len() as u64);
}

#[test]
fn the_lock_page_is_never_written() {
    let lock_page = PageSize::MIN.lock_page();
    let expected = PageOrderError::LockPage { pgno: lock_page };
    assert_eq!(refused(&mut encoder(change(u32::MAX)), lock_page.get()), expected);
    assert_eq!(
        refused(&mut encoder(snapshot(u32::MAX)), lock_page.get()),
        expected
    );
}

#[test]
fn a_snapshot_holds_every_page_up_to_its_commit() {
    let mut first = encoder(snapshot(3));
    let gap = |number, expected| PageOrderError::SnapshotGap {
        pgno: pgno(number),
        expected,
    };
    assert_eq!(refused(&mut first, 2), gap(2, 1));
    first.page(pgno(1), &DATA).unwrap();
    assert_eq!(refused(&mut first, 3), gap(3, 2));
    first.page(pgno(2), &DATA).unwrap();
    let error = first.finish(sum(&[1, 2])).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::Page(PageOrderError::SnapshotEnd {
            missing: 3,
            commit_pages: 3
        })
    ));
}

#[test]
fn a_snapshot_s_checksum_is_that_of_its_pages() {
    let whole = || {
        let mut encoder = encoder(snapshot(2));
        encoder.page(pgno(1), &DATA).unwrap();
        encoder.page(pgno(2), &DATA).unwrap();
        encoder
    };
    let expected = sum(&[1, 2]);
    let error = whole().finish(sum(&[1])).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::PostApply(PostApplyError::Differs { expected: found, .. }) if found == expected
    ));
    assert_eq!(whole().finish(expected).unwrap().pos.checksum, expected);
}

#[test]
fn a_deletion_ends_with_the_checksum_of_nothing() {
    let finish = |header, checksum| encoder(header).finish(checksum);
    let error = finish(change(0), Checksum::from_bits(u64::MAX)).unwrap_err();
    assert!(matches!(
        error,
        EncodeError::PostApply(PostApplyError::Differs { .. })
    ));
    for header in [change(0), snapshot(0)] {
        let encoded = finish(header, Checksum::EMPTY_DATABASE).unwrap();
        assert_eq!(encoded.output.len(), 120);
        assert_eq!(encoded.pos.checksum, Checksum::EMPTY_DATABASE);
    }
}

#[test]
fn a_post_apply_checksum_without_its_flag_is_refused() {
    for bits in [0, 5] {
        let error = encoder(change(3)).finish(Checksum::from_bits(bits)).unwrap_err();
        assert!(matches!(
            error,
            EncodeError::PostApply(PostApplyError::Missing { .. })
        ));
    }
}

#[test]
fn data_of_another_length_is_no_page() {
    let mut encoder = encoder(change(3));
    let error = encoder.page(pgno(1), &DATA[1..]).unwrap_err();
    assert_eq!(error.to_string(), "page 1 of 511 bytes, a page has 512");
}

/// Takes so many bytes and no more.
#[derive(Debug)]
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let taken = bytes.len().min(self.0);
        self.0 -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_told_with_the_part_and_the_file_is_given_up() {
    let error = Encoder::new(Full(99), change(3)).unwrap_err();
    assert_eq!(error.to_string(), "write the header of an ltx file");
    let mut encoder = Encoder::new(Full(300), change(3)).unwrap();
    let error = encoder.page(pgno(2), &DATA).unwrap_err();
    assert_eq!(error.to_string(), "write page 2 of an ltx file");
    assert!(matches!(encoder.page(pgno(3), &DATA), Err(EncodeError::Broken)));
    assert!(matches!(
        encoder.finish(Checksum::EMPTY_DATABASE),
        Err(EncodeError::Broken)
    ));
}

#[test]
fn no_output_that_ends_early_makes_a_file() {
    for flags in [Flags::NONE, Flags::LZ4] {
        let header = Header { flags, ..change(3) };
        let write = |room| {
            let mut encoder = Encoder::new(Full(room), header)?;
            encoder.page(pgno(2), &DATA)?;
            encoder.finish(Checksum::EMPTY_DATABASE)
        };
        let mut whole = encoder(header);
        whole.page(pgno(2), &DATA).unwrap();
        let length = whole.finish(Checksum::EMPTY_DATABASE).unwrap().output.len();
        for room in 0..length {
            assert!(write(room).is_err(), "{room} of {length}");
        }
        assert_eq!(write(length).unwrap().output.0, 0);
    }
}

#[test]
fn a_whole_header_stands_before_the_first_page() {
    let file = encoder(change(3))
        .finish(Checksum::EMPTY_DATABASE)
        .unwrap()
        .output;
    let decoder = Decoder::new(&file[..], Version::V1).unwrap();
    assert_eq!(*decoder.header(), change(3));
}
