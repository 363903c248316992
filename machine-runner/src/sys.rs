//! The few things that need `unsafe`: the time-stamp counter, a probe of io_uring, and the probe guest's memory.
#![allow(unsafe_code)]

use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;

/// Reads the processor's time-stamp counter.
#[must_use]
pub(crate) fn read_tsc() -> u64 {
    // SAFETY: RDTSC reads a counter and has no other effect; every x86-64 processor has it, and Linux does not
    // forbid it to programs unless they ask for that.
    // WHY UNSAFE: there is no safe wrapper in the standard library.
    unsafe { std::arch::x86_64::_rdtsc() }
}

/// Whether the kernel offers io_uring to this process.
#[must_use]
pub(crate) fn io_uring_offered() -> bool {
    // SAFETY: a null pointer is refused (EFAULT) and zero entries are (EINVAL), whichever the kernel looks at first:
    // no ring is made and no memory touched. Where the kernel lacks or forbids io_uring it answers another error.
    // WHY UNSAFE: a raw system call; nothing safe asks without making a ring.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, std::ptr::null_mut::<u8>()) };
    let refusal = std::io::Error::last_os_error().raw_os_error();
    result == -1 && matches!(refusal, Some(libc::EINVAL | libc::EFAULT))
}

/// Page-aligned memory of a probe guest; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct GuestMemory {
    address: *mut u8,
    bytes: usize,
}

impl GuestMemory {
    /// Maps `bytes` zero bytes, a multiple of the page size.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn new(bytes: usize) -> std::io::Result<Self> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches nothing that exists.
        // WHY UNSAFE: the guest changes this memory under us, so it cannot be a Vec.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        Ok(Self {
            address: address.cast(),
            bytes,
        })
    }

    /// Copies `data` to `offset`.
    ///
    /// # Panics
    /// When it does not fit.
    pub(crate) fn write(&mut self, offset: usize, data: &[u8]) {
        assert!(
            offset + data.len() <= self.bytes,
            "{} bytes at {offset} of {}",
            data.len(),
            self.bytes
        );
        // SAFETY: the range lies within the one mapping made in `new`, which `self` keeps alive, and `data` is
        // ordinary memory that cannot overlap a fresh mapping. No guest runs while `&mut self` is held.
        // WHY UNSAFE: guest memory is only reachable through its raw address.
        unsafe { std::ptr::copy_nonoverlapping(data.as_ptr(), self.address.add(offset), data.len()) };
    }

    /// Gives the memory to a virtual machine at guest address 0.
    ///
    /// # Errors
    /// When KVM refuses.
    pub(crate) fn give_to(&self, vm: &VmFd) -> Result<(), kvm_ioctls::Error> {
        let region = kvm_userspace_memory_region {
            slot: 0,
            flags: 0,
            guest_phys_addr: 0,
            memory_size: self.bytes as u64,
            userspace_addr: self.address as u64,
        };
        // SAFETY: the mapping has exactly this address and length and, as the probe keeps `self` until the
        // process ends, outlives the virtual machine.
        // WHY UNSAFE: KVM keeps using the memory after the call.
        unsafe { vm.set_user_memory_region(region) }
    }
}

impl Drop for GuestMemory {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping of `new`, unmapped once.
        // WHY UNSAFE: as in `new`.
        unsafe { libc::munmap(self.address.cast(), self.bytes) };
    }
}
