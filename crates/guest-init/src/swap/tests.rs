use super::*;

#[test]
fn the_last_page_is_counted_from_zero_and_a_rest_is_left_out() {
    let page = signature(10 * PAGE_BYTES as u64 + 17);
    assert_eq!(page[1028..1032], [9, 0, 0, 0]);
    assert_eq!(&page[4086..], b"SWAPSPACE2");
}
