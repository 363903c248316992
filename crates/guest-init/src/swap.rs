//! Swap on an ephemeral disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::device::{self, DeviceError};
use crate::sys;

const PAGE_BYTES: usize = 4096;

/// Why there is no swap.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SwapError {
    /// No such device.
    #[error("find the swap device")]
    Device(#[from] DeviceError),
    /// The device cannot be written, or the kernel refused it.
    #[error("swap on the device")]
    Swap(#[source] io::Error),
}

/// Makes the device with this serial a swap area and starts using it.
pub(crate) async fn start(serial: &str) -> Result<(), SwapError> {
    let device = device::block_device(serial).await?;
    let start = || -> io::Result<()> {
        let node = File::options().write(true).open(device.path())?;
        node.write_all_at(&signature(device.bytes()), 0)?;
        node.sync_all()?;
        drop(node);
        sys::swapon(&device.path())
    };
    start().map_err(SwapError::Swap)
}

/// Returns the first page of a swap area: version 1, the number of its last page, and the mark at its end.
fn signature(device_bytes: u64) -> [u8; PAGE_BYTES] {
    let last_page = u32::try_from(device_bytes / PAGE_BYTES as u64)
        .unwrap_or(u32::MAX)
        .saturating_sub(1);
    let mut page = [0; PAGE_BYTES];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&last_page.to_le_bytes());
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    page
}

#[cfg(test)]
mod tests;
