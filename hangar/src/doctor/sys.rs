//! The one system call that no safe library offers.
#![allow(unsafe_code)]

/// Asks for an io_uring of no entries, which never succeeds, and returns the error that tells whether it could.
pub(super) fn io_uring_refusal() -> std::io::Error {
    // SAFETY: `io_uring_setup` reads its second argument only when it is a valid address; with a null pointer the
    // kernel answers EFAULT (or, before it looks, ENOSYS or EPERM) and touches no memory of ours.
    // WHY UNSAFE: rustix offers this call as unsafe as well, and nothing else does without setting a ring up.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0_u32, std::ptr::null_mut::<u8>()) };
    assert!(result < 0, "io_uring_setup without parameters returned {result}");
    std::io::Error::last_os_error()
}
