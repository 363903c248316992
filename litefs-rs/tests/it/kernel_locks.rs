//! Our locks against those of the kernel.

use litefs_rs::db::{
    files::FileKind,
    locks::{LockByte, Locks, Mode, Owner, Request},
};

use crate::{rng::Choices, sys::kernel_lock};

/// Every request is granted or refused as the kernel does; but for the gate, which the kernel does not have.
#[test]
fn locks_are_granted_as_the_kernel_grants_those_of_open_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locks");
    std::fs::File::create(&path).unwrap();
    let open = || {
        std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap()
    };
    for seed in 0..40 {
        let mut choices = Choices::new(seed);
        let owners = [open(), open(), open(), open()];
        let mut locks = Locks::default();
        let mut refused = 0;
        for step in 0..300 {
            let owner = choices.below(4);
            let (first, last) = (choices.below(12), choices.below(12));
            let shm = |index: u32| LockByte::ALL[index as usize].file() == FileKind::Shm;
            if first > last || shm(first) != shm(last) {
                continue;
            }
            let mode = choices.one_of(&[None, Some(Mode::Shared), Some(Mode::Exclusive)]);
            let gated = mode == Some(Mode::Exclusive) && (first..=last).contains(&4);
            if gated {
                continue;
            }
            let (start, end) = (
                LockByte::ALL[first as usize].offset(),
                LockByte::ALL[last as usize].offset() + 1,
            );
            let request = Request {
                owner: Owner(u64::from(owner)),
                file: LockByte::ALL[first as usize].file(),
                range: start..end,
                mode,
            };
            let kind = match mode {
                None => libc::F_UNLCK,
                Some(Mode::Shared) => libc::F_RDLCK,
                Some(Mode::Exclusive) => libc::F_WRLCK,
            };
            let granted = kernel_lock(&owners[owner as usize], kind, start, end - start);
            let ours = locks.request(&request).is_ok();
            assert_eq!(ours, granted, "seed {seed} step {step}: {request:?}");
            refused += u32::from(!granted);
        }
        assert!(refused > 10, "seed {seed}: {refused} refusals prove little");
    }
}
