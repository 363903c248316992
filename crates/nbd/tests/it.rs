//! The field's own clients against exports that this crate serves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod it {
    mod clients;
    mod export;
    mod fio;
    mod libnbd;
    mod qemu;
}
