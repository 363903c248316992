//! Making a file system on a volume that never had one.
//!
//! Twice guarded: the host allows it, and the device's first and last MiB read zero. A guest that dies while
//! it formats leaves neither a blank device nor a whole file system; a mark on the device, written before and
//! erased after, tells the next boot that it may start over.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use guest_init::proto::config::FsType;

const MIB: u64 = 1 << 20;

/// Where the mark stands, counted from the device's end: within its last MiB, and before the last 128 KiB,
/// which mkfs.xfs clears.
const MARK_FROM_END: u64 = 512 * 1024;

const MARK_BYTES: usize = 4096;

/// Why a volume cannot be formatted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FormatError {
    /// The device cannot be read or written.
    #[error("{doing}")]
    Device {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// The device is too small for any file system.
    #[error("the device has {bytes} bytes; a volume needs at least 4 MiB")]
    TooSmall { bytes: u64 },
}

/// What a device holds, as far as formatting is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// First and last MiB read zero.
    Blank,
    /// Formatting was begun and not ended.
    HalfFormatted,
    /// Anything else: not ours to overwrite.
    Something,
}

/// Looks at the first and last MiB of `device`, which has `bytes` bytes.
pub(crate) fn inspect(device: &File, bytes: u64) -> Result<Content, FormatError> {
    if bytes < 4 * MIB {
        return Err(FormatError::TooSmall { bytes });
    }
    let device_error = |source| FormatError::Device {
        doing: "read the device's ends",
        source,
    };
    let mut first = vec![0; 1 << 20];
    device.read_exact_at(&mut first, 0).map_err(device_error)?;
    let mut last = vec![0; 1 << 20];
    device
        .read_exact_at(&mut last, bytes - MIB)
        .map_err(device_error)?;
    let at = usize::try_from(MIB - MARK_FROM_END).unwrap_or(0);
    if last[at..at + MARK_BYTES] == mark()[..] {
        return Ok(Content::HalfFormatted);
    }
    let blank = first.iter().chain(&last).all(|byte| *byte == 0);
    Ok(if blank { Content::Blank } else { Content::Something })
}

/// Writes the mark, before formatting.
pub(crate) fn begin(device: &File, bytes: u64) -> Result<(), FormatError> {
    let write = || -> io::Result<()> {
        device.write_all_at(&mark(), bytes - MARK_FROM_END)?;
        device.sync_all()
    };
    write().map_err(|source| FormatError::Device {
        doing: "mark the device",
        source,
    })
}

/// Erases the mark, after formatting; unless the file system has put something of its own there.
pub(crate) fn end(device: &File, bytes: u64) -> Result<(), FormatError> {
    let erase = || -> io::Result<()> {
        let mut there = [0; MARK_BYTES];
        device.read_exact_at(&mut there, bytes - MARK_FROM_END)?;
        if there == mark() {
            device.write_all_at(&[0; MARK_BYTES], bytes - MARK_FROM_END)?;
        }
        device.sync_all()
    };
    erase().map_err(|source| FormatError::Device {
        doing: "erase the device's mark",
        source,
    })
}

fn mark() -> [u8; MARK_BYTES] {
    let mut mark = [0; MARK_BYTES];
    for (index, byte) in mark.iter_mut().enumerate() {
        *byte = b"hangar: being formatted "[index % 24];
    }
    mark
}

/// Returns the command that makes a volume's file system.
pub(crate) fn make_volume(fstype: FsType, device: &Path) -> Vec<String> {
    let words: &[&str] = match fstype {
        // Blocks of 4 KiB at any size: file systems of 1 KiB blocks grow slowly.
        FsType::Ext4 => &[
            "/sbin/mke2fs",
            "-q",
            "-F",
            "-t",
            "ext4",
            "-b",
            "4096",
            "-i",
            "16384",
            "-I",
            "256",
            "-m",
            "1",
            "-E",
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
        ],
        FsType::Xfs => &["/sbin/mkfs.xfs", "-q", "-f", "-K"],
    };
    command(words, device)
}

/// Returns the command that makes the file system under the root file system's writable layer. It lives as
/// long as the boot, so it needs no journal.
pub(crate) fn make_overlay(device: &Path) -> Vec<String> {
    let options = "lazy_itable_init=1,nodiscard";
    let words = &[
        "/sbin/mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "0",
        "-O",
        "^has_journal",
        "-E",
        options,
    ];
    command(words, device)
}

fn command(words: &[&str], device: &Path) -> Vec<String> {
    let mut command: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    command.push(device.display().to_string());
    command
}

#[cfg(test)]
mod tests;
