//! Does KVM really run code? Tried by running code, in a process of its own.
//!
//! A `/dev/kvm` that opens proves nothing: some hosts emulate every guest instruction, a thousand times slower,
//! and fail later on something rare. A 64-bit guest that counts to 100,000 tells them apart: well under a
//! millisecond on hardware, 85 to 155 ms emulated.

use std::time::Duration;

use kvm_bindings::kvm_segment;
use kvm_ioctls::{Kvm, VcpuExit};
use serde::{Deserialize, Serialize};

use crate::sys::GuestMemory;

/// Longest time for 100,000 rounds.
pub const LIMIT: Duration = Duration::from_millis(20);
/// Time after which the probing process is killed.
pub const KILL_AFTER: Duration = Duration::from_millis(250);

const MEMORY_BYTES: usize = 0x20_0000;
const PML4: usize = 0x1000;
const PDPT: usize = 0x2000;
const PAGE_DIRECTORY: usize = 0x3000;
const CODE: usize = 0x8000;
const ROUNDS_WARM_UP: u32 = 10_000;
const ROUNDS: u32 = 100_000;

/// What the probing process found out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Code ran this fast.
    Ran {
        /// Microseconds for 100,000 rounds.
        micros: u64,
    },
    /// It began and did not end in time.
    TooSlow,
    /// It did not run.
    Failed {
        /// Why.
        reason: String,
    },
}

/// Runs the probe in this process, which must be one that may die.
#[must_use]
pub fn probe() -> Outcome {
    match try_probe() {
        Ok(micros) => Outcome::Ran { micros },
        Err(reason) => Outcome::Failed { reason },
    }
}

fn try_probe() -> Result<u64, String> {
    let kvm = Kvm::new().map_err(|error| format!("/dev/kvm: {error}"))?;
    if kvm.get_api_version() != 12 {
        return Err(format!(
            "KVM speaks version {}, 12 is needed",
            kvm.get_api_version()
        ));
    }
    let vm = kvm
        .create_vm()
        .map_err(|error| format!("create a virtual machine: {error}"))?;
    let mut memory = GuestMemory::new(MEMORY_BYTES).map_err(|error| format!("memory: {error}"))?;
    // One 2 MiB page, identity-mapped.
    memory.write(PML4, &(PDPT as u64 | 3).to_le_bytes());
    memory.write(PDPT, &(PAGE_DIRECTORY as u64 | 3).to_le_bytes());
    memory.write(PAGE_DIRECTORY, &0x83_u64.to_le_bytes());
    // dec ecx; jnz -4; mov al, 1; out 0x10, al; hlt
    memory.write(CODE, &[0xFF, 0xC9, 0x75, 0xFC, 0xB0, 0x01, 0xE6, 0x10, 0xF4]);
    memory
        .give_to(&vm)
        .map_err(|error| format!("guest memory: {error}"))?;
    let mut cpu = vm
        .create_vcpu(0)
        .map_err(|error| format!("create a processor: {error}"))?;
    let mut special = cpu
        .get_sregs()
        .map_err(|error| format!("read registers: {error}"))?;
    special.cr3 = PML4 as u64;
    special.cr4 = 0x20;
    special.cr0 = 0x8000_0033;
    special.efer = 0x500;
    special.cs = segment(0x8, 0xb, 1);
    for data in [
        &mut special.ds,
        &mut special.es,
        &mut special.ss,
        &mut special.fs,
        &mut special.gs,
    ] {
        *data = segment(0x10, 0x3, 0);
    }
    cpu.set_sregs(&special)
        .map_err(|error| format!("long mode: {error}"))?;
    let mut run = |rounds: u32| -> Result<Duration, String> {
        let mut registers = cpu
            .get_regs()
            .map_err(|error| format!("read registers: {error}"))?;
        registers.rip = CODE as u64;
        registers.rcx = u64::from(rounds);
        registers.rflags = 2;
        cpu.set_regs(&registers)
            .map_err(|error| format!("set registers: {error}"))?;
        let before = tokio::time::Instant::now();
        match cpu.run().map_err(|error| format!("run: {error}"))? {
            VcpuExit::IoOut(0x10, [1]) => Ok(before.elapsed()),
            other => Err(format!("the guest ended by {other:?}")),
        }
    };
    run(ROUNDS_WARM_UP)?;
    let took = run(ROUNDS)?;
    Ok(u64::try_from(took.as_micros()).unwrap_or(u64::MAX))
}

fn segment(selector: u16, kind: u8, long: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_: kind,
        present: 1,
        dpl: 0,
        db: 1 - long,
        s: 1,
        l: long,
        g: 1,
        ..kvm_segment::default()
    }
}
