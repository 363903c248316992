//! Reading the processor's counter.
#![allow(unsafe_code)]

/// Returns the time stamp counter.
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: the instruction reads a counter that every x86-64 processor has; it touches no memory.
    // WHY UNSAFE: the intrinsic is declared so.
    unsafe { core::arch::x86_64::_rdtsc() }
}
