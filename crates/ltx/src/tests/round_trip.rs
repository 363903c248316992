//! What is written is read, whatever it is.

use std::io::{self, Read};

use super::samples::{Pages, change, checksum, decode, encode, pgno, snapshot};
use crate::{Checksum, Decoder, Encoder, Flags, Header, NodeId, PageSize, Txid, Version, WalSpan, verify};
use proptest::prelude::*;

fn page_sizes() -> impl Strategy<Value = PageSize> {
    prop::sample::select(PageSize::all().collect::<Vec<_>>())
}

fn flags() -> impl Strategy<Value = Flags> {
    prop::sample::select(vec![Flags::NONE, Flags::LZ4])
}

/// The bytes of a page: zeros, noise, or something in between.
fn page(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[7]
    };
    (0..bytes)
        .map(|at| match seed % 3 {
            0 => 0,
            1 => noise(),
            _ if at % 16 < 4 => noise(),
            _ => b' ',
        })
        .collect()
}

/// Hands out a byte or two at a time, and is interrupted now and then.
struct Dribble<'a>(&'a [u8], usize);

impl Read for Dribble<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.1 += 1;
        if self.1.is_multiple_of(7) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let length = bytes.len().min(1 + self.1 % 2);
        self.0.read(&mut bytes[..length])
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn prop_a_change_is_read_as_it_was_written(
        page_size in page_sizes(),
        flags in flags(),
        numbers in prop::collection::btree_map(1u32.., any::<u64>(), 0..12),
        more in 0u32..5,
        txids in (2u64.., 2u64..),
        bits in any::<(i64, u64, u64, u64)>(),
        wal in prop::option::of((1u64..1 << 63, 1u64..1 << 63, any::<(u32, u32)>())),
    ) {
        let lock_page = page_size.lock_page().get();
        let pages: Pages = numbers
            .into_iter()
            .filter(|(number, _)| *number != lock_page)
            .map(|(number, seed)| (number, page(seed, page_size.as_usize())))
            .collect();
        let highest = pages.last_key_value().map_or(1, |(number, _)| *number);
        let header = Header {
            flags,
            page_size,
            commit_pages: highest.saturating_add(more),
            min_txid: Txid::new(txids.0.min(txids.1)),
            max_txid: Txid::new(txids.0.max(txids.1)),
            timestamp_ms: bits.0,
            pre_apply: Checksum::from_bits(bits.1 | Checksum::FLAG),
            wal: wal.map(|(offset_bytes, size_bytes, (salt1, salt2))| WalSpan { offset_bytes, size_bytes, salt1, salt2 }),
            node: NodeId::new(bits.2),
        };
        let post_apply = Checksum::from_bits(bits.3 | Checksum::FLAG);
        let file = encode(header, &pages, post_apply);
        let (read, decoded) = decode(&file, Version::V1).unwrap();
        prop_assert_eq!(decoded.header, header);
        prop_assert_eq!(decoded.trailer.post_apply, post_apply);
        prop_assert_eq!(decoded.page_count, pages.len() as u64);
        prop_assert!(read == pages);
        let dribbled = verify(Dribble(&file, 0), Version::V1).unwrap();
        prop_assert_eq!(dribbled, decoded);
    }

    #[test]
    fn prop_a_snapshot_is_read_as_it_was_written(
        page_size in page_sizes(),
        flags in flags(),
        seeds in prop::collection::vec(any::<u64>(), 0..12),
    ) {
        let pages: Pages = (1u32..).zip(seeds).map(|(number, seed)| (number, page(seed, page_size.as_usize()))).collect();
        let header = Header { flags, page_size, ..snapshot(u32::try_from(pages.len()).unwrap()) };
        let file = encode(header, &pages, checksum(&pages));
        let (read, decoded) = decode(&file, Version::V1).unwrap();
        prop_assert_eq!(decoded.trailer.post_apply, checksum(&pages));
        prop_assert!(read == pages);
    }
}

/// A pipe holds 64 KiB: neither side can wait for the other to be through.
#[test]
fn a_file_that_never_is_anywhere_as_a_whole_goes_through_a_pipe() {
    const PAGES: u32 = 128;
    let page_size = PageSize::MAX;
    let header = Header {
        page_size,
        ..snapshot(PAGES)
    };
    let pages = (1..=PAGES).map(|number| (number, page(u64::from(number), page_size.as_usize())));
    let pages: Pages = pages.collect();
    let (reader, writer) = io::pipe().unwrap();
    let (pos, decoded) = std::thread::scope(|scope| {
        let decoding = scope.spawn(|| verify(reader, Version::V1).unwrap());
        let mut encoder = Encoder::new(writer, header).unwrap();
        for (number, data) in &pages {
            encoder.page(pgno(*number), data).unwrap();
        }
        let encoded = encoder.finish(checksum(&pages)).unwrap();
        drop(encoded.output);
        (encoded.pos, decoding.join().unwrap())
    });
    assert_eq!(decoded.pos, pos);
    assert_eq!(decoded.page_count, u64::from(PAGES));
}

#[test]
fn nothing_is_read_beyond_the_pages_until_the_end_is_asked_for() {
    for flags in [Flags::NONE, Flags::LZ4] {
        let pages = Pages::from([(2, page(2, 512))]);
        let file = encode(Header { flags, ..change(3) }, &pages, Checksum::EMPTY_DATABASE);
        let mut two = file.clone();
        two.extend_from_slice(&file);
        let mut input = &two[..];
        let mut decoder = Decoder::new(&mut input, Version::V1).unwrap();
        let mut data = Vec::new();
        while decoder.next_page(&mut data).unwrap().is_some() {}
        drop(decoder);
        assert_eq!(input.len(), 16 + file.len());
        for _ in 0..2 {
            let mut one = Read::take(&two[..], file.len() as u64);
            let decoded = verify(&mut one, Version::V1).unwrap();
            assert_eq!(decoded.page_count, 1);
        }
    }
}
