//! The wall clock and the randomness that a guest gets from its host.

use std::fs::File;
use std::io;

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};

use crate::sys;

/// Sets the wall clock when it is more than `tolerance_ms` off; tells by how much it was.
pub(crate) fn step(unix_ms: u64, tolerance_ms: u64) -> io::Result<Option<i64>> {
    let now = clock_gettime(ClockId::Realtime);
    let now_ms = now.tv_sec * 1000 + now.tv_nsec / 1_000_000;
    let wanted_ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    let off_ms = wanted_ms.saturating_sub(now_ms);
    if off_ms.unsigned_abs() <= tolerance_ms {
        return Ok(None);
    }
    let wanted = Timespec {
        tv_sec: wanted_ms / 1000,
        tv_nsec: wanted_ms % 1000 * 1_000_000,
    };
    clock_settime(ClockId::Realtime, wanted)?;
    Ok(Some(off_ms))
}

/// Returns the time since boot, in milliseconds.
pub(crate) fn uptime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
}

/// Mixes the host's randomness, in hexadecimal, into the guest's.
pub(crate) fn add_entropy(hexadecimal: &str) -> io::Result<()> {
    let entropy = hex::decode(hexadecimal).map_err(io::Error::other)?;
    let random = File::options().write(true).open("/dev/urandom")?;
    sys::add_entropy(&random, &entropy)
}
