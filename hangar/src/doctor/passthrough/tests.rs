use super::*;

#[test]
fn the_flag_is_found_where_the_protocol_puts_it() {
    let mut message = vec![0_u8; HEADER_BYTES + 64];
    assert!(!offers_passthrough(&message));
    message[FLAGS2_AT..FLAGS2_AT + 4].copy_from_slice(&PASSTHROUGH.to_ne_bytes());
    assert!(offers_passthrough(&message));
    assert!(
        !offers_passthrough(&message[..FLAGS2_AT + 3]),
        "a kernel that sends no second word offers nothing in it"
    );
}
