use super::*;
use crate::tests::samples::{Database, Pages, change, decode, encode, pgno};
use crate::{Txid, verify};
use proptest::prelude::*;

/// What a transaction does.
#[derive(Debug, Clone)]
enum Step {
    /// Makes the database so long, writes every so many pages of what it has, and all that are new unless holes are left.
    Commit {
        pages: u32,
        every: u32,
        fill: u8,
        holes: bool,
    },
    Delete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let commit = (1u32..24, 1u32..9, any::<u8>(), prop::bool::weighted(0.3)).prop_map(
        |(pages, every, fill, holes)| Step::Commit {
            pages,
            every,
            fill,
            holes,
        },
    );
    prop::collection::vec(prop_oneof![8 => commit, 1 => Just(Step::Delete)], 1..10)
}

/// Lets the steps happen to a new database. Returns their files, and the database before the first and after each.
fn live(page_size: PageSize, steps: &[Step]) -> (Vec<Vec<u8>>, Vec<Database>) {
    let mut database = Database::new(page_size);
    let mut files = Vec::new();
    let mut states = vec![database.clone()];
    for (index, step) in steps.iter().enumerate() {
        let old = u32::try_from(database.pages().len()).unwrap();
        let (commit_pages, changed): (u32, Pages) = match *step {
            Step::Delete => (0, Pages::new()),
            Step::Commit {
                pages,
                every,
                fill,
                holes,
            } => {
                // The first transaction is a snapshot, which has no holes.
                let all = |number: u32| number > old && (index == 0 || !holes);
                let written = (1..=pages).filter(|number| number % every == 0 || all(*number));
                let data =
                    |number: u32| vec![fill.wrapping_add(number.to_le_bytes()[0]); page_size.as_usize()];
                (pages, written.map(|number| (number, data(number))).collect())
            }
        };
        let header = Header {
            flags: if index % 2 == 0 { Flags::LZ4 } else { Flags::NONE },
            ..database.commit(commit_pages, &changed)
        };
        files.push(encode(header, &changed, database.checksum()));
        states.push(database.clone());
    }
    (files, states)
}

fn merge_all(files: &[Vec<u8>], flags: Flags) -> Result<Vec<u8>, CompactError> {
    compact(files.iter().map(Vec::as_slice), Vec::new(), flags).map(|encoded| encoded.output)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn prop_a_merged_file_does_what_its_files_do_one_after_the_other(
        page_size in prop::sample::select(vec![PageSize::MIN, PageSize::new(2048).unwrap()]),
        steps in steps(),
        range in any::<(prop::sample::Index, prop::sample::Index)>(),
        flags in prop::sample::select(vec![Flags::NONE, Flags::LZ4]),
    ) {
        let (files, states) = live(page_size, &steps);
        let (one, other) = (range.0.index(files.len()), range.1.index(files.len()));
        let (first, last) = (one.min(other), one.max(other));
        let merged = merge_all(&files[first..=last], flags).unwrap();
        let mut database = states[first].clone();
        database.apply(&merged);
        prop_assert_eq!(database.pages(), states[last + 1].pages());
        prop_assert_eq!(database.checksum(), states[last + 1].checksum());
        // Merged at once or in two turns is the same.
        let middle = first + (last - first) / 2;
        let halves = [&files[first..=middle], &files[middle + 1..=last]];
        let halves: Vec<_> = halves.into_iter().filter(|half| !half.is_empty()).map(|half| merge_all(half, Flags::LZ4).unwrap()).collect();
        let again = merge_all(&halves, flags).unwrap();
        prop_assert_eq!(decode(&again, Version::V1).unwrap(), decode(&merged, Version::V1).unwrap());
    }
}

/// Files of the transactions 8, 9, … with one page each, in a chain of checksums.
fn chain(count: u64) -> Vec<Vec<u8>> {
    let at = |txid: u64| Checksum::from_bits(Checksum::FLAG | txid);
    (8..8 + count)
        .map(|txid| {
            let header = Header {
                min_txid: Txid::new(txid),
                max_txid: Txid::new(txid),
                pre_apply: at(txid - 1),
                ..change(4)
            };
            encode(header, &Pages::from([(2, vec![7; 512])]), at(txid))
        })
        .collect()
}

fn refused(files: &[Vec<u8>]) -> String {
    let error = merge_all(files, Flags::NONE).unwrap_err();
    let error: &dyn std::error::Error = &error;
    let chain = std::iter::successors(Some(error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[test]
fn the_order_of_the_inputs_does_not_matter() {
    let mut files = chain(5);
    let merged = merge_all(&files, Flags::NONE).unwrap();
    files.reverse();
    assert_eq!(merge_all(&files, Flags::NONE).unwrap(), merged);
    let decoded = verify(&merged[..], Version::V1).unwrap();
    assert_eq!(decoded.page_count, 1);
    assert_eq!(decoded.header.node, NodeId::NONE);
}

#[test]
fn a_gap_or_an_overlap_is_told_with_both_files() {
    let files = chain(4);
    assert_eq!(
        refused(&[files[0].clone(), files[2].clone()]),
        "000000000000000a-000000000000000a.ltx does not follow upon 0000000000000008-0000000000000008.ltx"
    );
    let two = merge_all(&files[..2], Flags::NONE).unwrap();
    assert_eq!(
        refused(&[two, files[1].clone()]),
        "0000000000000009-0000000000000009.ltx does not follow upon 0000000000000008-0000000000000009.ltx"
    );
}

#[test]
fn files_that_follow_by_number_only_are_told_with_their_checksums() {
    let mut files = chain(2);
    let (pages, decoded) = decode(&files[1], Version::V1).unwrap();
    let header = Header {
        pre_apply: Checksum::from_bits(u64::MAX),
        ..decoded.header
    };
    files[1] = encode(header, &pages, decoded.trailer.post_apply);
    assert_eq!(
        refused(&files),
        "0000000000000009-0000000000000009.ltx begins with checksum ffffffffffffffff, but \
         0000000000000008-0000000000000008.ltx ends with 8000000000000008"
    );
}

#[test]
fn another_page_size_is_told() {
    let mut files = chain(2);
    let header = Header {
        page_size: PageSize::new(1024).unwrap(),
        ..*Decoder::new(&files[1][..], Version::V1).unwrap().header()
    };
    files[1] = encode(header, &Pages::new(), Checksum::EMPTY_DATABASE);
    assert_eq!(
        refused(&files),
        "0000000000000008-0000000000000008.ltx with pages of 512 bytes and \
         0000000000000009-0000000000000009.ltx with pages of 1024 bytes"
    );
}

#[test]
fn nothing_is_made_of_nothing() {
    assert_eq!(refused(&[]), "no ltx file to merge");
}

#[test]
fn a_damaged_input_is_named_and_leaves_no_file() {
    let files = chain(3);
    for at in 0..files[1].len() {
        let mut files = files.clone();
        files[1][at] ^= 0x10;
        let mut output = Vec::new();
        let result = compact(files.iter().map(Vec::as_slice), &mut output, Flags::NONE);
        assert!(result.is_err(), "byte {at}");
        assert!(verify(&output[..], Version::V1).is_err(), "byte {at}");
    }
    let mut cut = files.clone();
    cut[1].truncate(50);
    assert_eq!(
        refused(&cut),
        "ltx file number 1 of those to merge: the ltx file ends within the header, at byte 50"
    );
}

#[test]
fn a_page_that_was_cut_off_does_not_come_back() {
    let page_size = PageSize::MIN;
    let mut database = Database::new(page_size);
    let old: Pages = (1..=6).map(|number| (number, vec![1; 512])).collect();
    database.commit(6, &old);
    let before = database.clone();
    let mut files = Vec::new();
    for (commit_pages, written) in [(2, 1), (6, 4)] {
        let changed = Pages::from([(written, vec![2; 512])]);
        let header = database.commit(commit_pages, &changed);
        files.push(encode(header, &changed, database.checksum()));
    }
    let merged = merge_all(&files, Flags::NONE).unwrap();
    let (pages, _) = decode(&merged, Version::V1).unwrap();
    assert_eq!(pages.keys().copied().collect::<Vec<_>>(), [1, 3, 4, 5, 6]);
    assert_eq!((pages[&3][0], pages[&4][0]), (0, 2));
    let mut applied = before;
    applied.apply(&merged);
    assert_eq!(applied.pages(), database.pages());
}

#[test]
fn zeros_are_not_written_into_the_lock_page() {
    let page_size = PageSize::MAX;
    let lock_page = page_size.lock_page().get();
    let at = |number: u64| Checksum::from_bits(Checksum::FLAG | number);
    let file = |txid: u64, commit_pages| {
        let header = Header {
            page_size,
            commit_pages,
            min_txid: Txid::new(txid),
            max_txid: Txid::new(txid),
            pre_apply: at(txid - 1),
            ..change(0)
        };
        encode(header, &Pages::new(), at(txid))
    };
    let files = [file(2, lock_page - 2), file(3, lock_page + 1)];
    let (pages, _) = decode(&merge_all(&files, Flags::LZ4).unwrap(), Version::V1).unwrap();
    assert_eq!(
        pages.keys().copied().collect::<Vec<_>>(),
        [lock_page - 1, lock_page + 1]
    );
    assert_eq!(pages[&pgno(lock_page + 1).get()], vec![0; 65_536]);
}
