use std::collections::BTreeSet;

use super::*;

#[test]
fn hex_has_two_lower_case_digits_a_byte_and_does_not_repeat() {
    let (one, two) = (hex(16), hex(16));
    assert_eq!(one.len(), 32);
    assert!(one.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f')));
    assert_ne!(one, two);
}

#[test]
fn base36_uses_every_digit_and_no_other() {
    let digits = base36(8_000);
    assert_eq!(digits.len(), 8_000);
    let seen: BTreeSet<u8> = digits.bytes().collect();
    assert_eq!(seen, BASE36.iter().copied().collect());
}

#[test]
fn nothing_asked_for_is_nothing_given() {
    assert_eq!(
        (hex(0), base36(0), bytes::<0>()),
        (String::new(), String::new(), [])
    );
}
