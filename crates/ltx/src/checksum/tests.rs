use super::*;
use crate::PageSize;
use proptest::prelude::*;

/// CRC-64/GO-ISO bit by bit, as its definition reads.
fn crc_by_definition(bytes: &[u8]) -> u64 {
    let mut register = u64::MAX;
    for byte in bytes {
        register ^= u64::from(*byte);
        for _ in 0..8 {
            let carry = register & 1;
            register >>= 1;
            if carry == 1 {
                register ^= 0xD800_0000_0000_0000;
            }
        }
    }
    !register
}

fn page(number: u32) -> Pgno {
    Pgno::new(number).unwrap()
}

#[test]
fn the_catalogue_s_check_values_come_out() {
    assert_eq!(crc_by_definition(b"123456789"), 0xb909_56c7_75a4_1001);
    let mut running = Running::new();
    assert_eq!(running.checksum().bits(), Checksum::FLAG);
    running.update(b"123456789");
    assert_eq!(running.checksum().bits(), 0xb909_56c7_75a4_1001 | Checksum::FLAG);
}

#[test]
fn zero_pages_have_the_recorded_checksums() {
    let check = |number, bytes: usize, expected: &str| {
        let zeros = vec![0; bytes];
        assert_eq!(Checksum::of_page(page(number), &zeros).to_string(), expected);
    };
    check(1, 4096, "d9328f592d9e733d");
    check(2, 4096, "f7901e47304ca33f");
    check(1, 512, "efb1f44fecd99000");
}

#[test]
fn every_page_size_has_its_lock_page() {
    let locks: Vec<u32> = PageSize::all().map(|size| size.lock_page().get()).collect();
    assert_eq!(
        locks,
        [
            2_097_153, 1_048_577, 524_289, 262_145, 131_073, 65_537, 32_769, 16_385
        ]
    );
    for bytes in [0, 1, 256, 513, 4095, 131_072, u32::MAX] {
        assert_eq!(PageSize::new(bytes), None, "{bytes}");
    }
}

proptest! {
    #[test]
    fn prop_a_page_s_checksum_is_that_of_the_definition(number in 1u32.., data in prop::collection::vec(any::<u8>(), 0..5000)) {
        let mut whole = number.to_be_bytes().to_vec();
        whole.extend_from_slice(&data);
        let expected = crc_by_definition(&whole) | Checksum::FLAG;
        prop_assert_eq!(Checksum::of_page(page(number), &data).bits(), expected);
    }

    #[test]
    fn prop_a_file_s_checksum_does_not_depend_on_how_its_bytes_come(
        data in prop::collection::vec(any::<u8>(), 0..3000),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
        cuts.push(data.len());
        cuts.sort_unstable();
        let mut running = Running::new();
        let mut begin = 0;
        for cut in cuts {
            running.update(&data[begin..cut]);
            begin = cut;
        }
        prop_assert_eq!(running.checksum().bits(), crc_by_definition(&data) | Checksum::FLAG);
    }

    #[test]
    fn prop_a_database_s_checksum_kept_page_by_page_is_that_computed_anew(
        changes in prop::collection::vec((1u32..20, any::<u8>()), 0..60),
    ) {
        let sum = |number: u32, fill: u8| Checksum::of_page(page(number), &[fill; 512]);
        let mut pages = std::collections::BTreeMap::new();
        let mut kept = Checksum::EMPTY_DATABASE;
        for (number, fill) in changes {
            if let Some(old) = pages.insert(number, fill) {
                kept = kept.toggle(sum(number, old));
            }
            kept = kept.toggle(sum(number, fill));
        }
        let anew = pages.iter().rev().fold(Checksum::EMPTY_DATABASE, |all, (number, fill)| all.toggle(sum(*number, *fill)));
        prop_assert_eq!(kept, anew);
        prop_assert!(kept.has_flag());
    }
}
