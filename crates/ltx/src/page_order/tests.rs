use super::*;
use crate::PageSize;
use crate::tests::samples::{pgno, snapshot};

fn order(page_size: PageSize, commit_pages: u32) -> PageOrder {
    PageOrder::new(&Header {
        page_size,
        ..snapshot(commit_pages)
    })
}

#[test]
fn a_snapshot_passes_over_the_lock_page() {
    for page_size in PageSize::all() {
        let lock_page = page_size.lock_page();
        let mut order = order(page_size, lock_page.get() + 1);
        for number in 1..lock_page.get() {
            order.admit(pgno(number)).unwrap();
        }
        let refused = PageOrderError::LockPage { pgno: lock_page };
        assert_eq!(order.admit(lock_page), Err(refused));
        let (missing, commit_pages) = (u64::from(lock_page.get()) + 1, lock_page.get() + 1);
        let early = PageOrderError::SnapshotEnd {
            missing,
            commit_pages,
        };
        assert_eq!(order.end(), Err(early));
        order.admit(pgno(lock_page.get() + 1)).unwrap();
        assert_eq!(order.end(), Ok(()));
    }
}

#[test]
fn a_snapshot_may_end_with_the_lock_page_which_it_does_not_hold() {
    let lock_page = PageSize::MAX.lock_page().get();
    let mut order = order(PageSize::MAX, lock_page);
    for number in 1..lock_page {
        order.admit(pgno(number)).unwrap();
    }
    assert_eq!(order.end(), Ok(()));
}

#[test]
fn the_last_page_number_of_all_is_a_page_like_any_other() {
    let mut order = PageOrder::new(&crate::tests::samples::change(u32::MAX));
    order.admit(pgno(u32::MAX)).unwrap();
    assert_eq!(order.end(), Ok(()));
}
