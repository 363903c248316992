//! The field's own clients against exports that this crate serves.

mod it {
    mod clients;
    mod export;
    mod fio;
    mod libnbd;
    mod qemu;
}
