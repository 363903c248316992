use proptest::prelude::*;

use super::*;

fn checksum_of(number: u32, fill: u8) -> (Pgno, Checksum) {
    let pgno = Pgno::new(number).unwrap();
    (pgno, Checksum::of_page(pgno, &[fill; 512]))
}

/// The definition: every page once, the lock page left out.
fn recomputed(pages: &[u8], lock_page: Option<Pgno>) -> Checksum {
    let numbers = (1..).zip(pages).map(|(number, fill)| checksum_of(number, *fill));
    numbers
        .filter(|(pgno, _)| Some(*pgno) != lock_page)
        .fold(Checksum::EMPTY_DATABASE, |database, (_, page)| {
            database.toggle(page)
        })
}

proptest! {
    #[test]
    fn prop_the_checksum_kept_is_the_checksum_recomputed(
        transactions in prop::collection::vec((0_usize..12, prop::collection::btree_map(1_u32..14, any::<u8>(), 0..8)), 1..20),
        lock_page in prop::option::of(1_u32..12),
    ) {
        let lock_page = lock_page.and_then(Pgno::new);
        let mut kept = PageChecksums { lock_page, ..PageChecksums::default() };
        let mut model: Vec<u8> = Vec::new();
        for (commit, mut changed) in transactions {
            for number in model.len() + 1..=commit {
                changed.entry(u32::try_from(number).unwrap()).or_default();
            }
            model.resize(commit, 0);
            for (number, fill) in &changed {
                if let Some(page) = model.get_mut(*number as usize - 1) {
                    *page = *fill;
                }
            }
            let changed = changed.into_iter().map(|(number, fill)| checksum_of(number, fill)).collect();
            let commit = u32::try_from(commit).unwrap();
            let expected = recomputed(&model, lock_page);
            prop_assert_eq!(kept.after(commit, &changed), expected);
            kept.apply(commit, &changed);
            prop_assert_eq!(kept.database(), expected);
            prop_assert_eq!(kept.pages(), commit);
        }
    }
}

#[test]
fn the_lock_page_and_pages_beyond_the_end_have_none() {
    let size = PageSize::MAX;
    let mut kept = PageChecksums::new(size);
    let lock_page = size.lock_page();
    let changed = (1..=lock_page.get())
        .map(|number| checksum_of(number, 1))
        .collect();
    kept.apply(lock_page.get(), &changed);
    assert_eq!(kept.page(lock_page), Checksum::NONE);
    assert_eq!(kept.page(lock_page.next().unwrap()), Checksum::NONE);
    assert_eq!(kept.page(Pgno::FIRST), changed[&Pgno::FIRST]);
    assert_eq!(PageChecksums::of(size, changed.into_values().collect()), kept);
}
