//! Small durable files and directories: there as a whole, or not at all.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use crate::{Disk, OpenOptions};

/// Writes a file so that at every instant, power cuts included, its path holds the old bytes or the new ones; when this
/// returns `Ok`, the new ones for good.
///
/// A temporary file beside it is written, synced and renamed over it, and the directory is synced. A crash in between
/// leaves the temporary file: see [`sweep_temporaries`].
///
/// * `mode`: permission bits of the new file.
///
/// # Errors
/// As the system. Old or new, the file is whole, but which of the two survives a power cut is then unknown.
pub fn write_atomic<D: Disk + ?Sized>(
    disk: &D,
    label: &'static str,
    path: &Path,
    bytes: &[u8],
    mode: u32,
) -> Result<()> {
    let directory = directory_of(path);
    let (temporary, file) = create_temporary(disk, label, path, mode)?;
    let renamed = file
        .write_at(bytes, 0)
        .and_then(|()| file.sync_data())
        .and_then(|()| disk.rename(label, &temporary, path));
    if let Err(error) = renamed {
        // Best effort: a sweep takes what stays, and the first error is the one that matters.
        let _swept_later = disk.remove_file(label, &temporary);
        return Err(error);
    }
    disk.sync_dir(label, directory)
}

/// Creates a directory and those above it that are missing, and makes every new name durable.
///
/// # Errors
/// As the system.
pub fn create_dir_durable<D: Disk + ?Sized>(disk: &D, label: &'static str, path: &Path) -> Result<()> {
    let mut missing = Vec::new();
    for directory in path
        .ancestors()
        .filter(|ancestor| !ancestor.as_os_str().is_empty())
    {
        match disk.stat(directory)? {
            Some(stat) if stat.is_dir => break,
            Some(_) => {
                let message = format!("{} is no directory", directory.display());
                return Err(Error::new(ErrorKind::NotADirectory, message));
            }
            None => missing.push(directory),
        }
    }
    disk.create_dir_all(label, path)?;
    // The directory itself may be there and yet not be durable: a crash may have come before the sync below.
    let created = missing.into_iter().rev();
    for directory in created.chain([path]) {
        disk.sync_dir(label, directory_of(directory))?;
    }
    Ok(())
}

/// Removes the temporary files that crashes of [`write_atomic`] left in `directory`, and returns how many there were.
/// Call it at start, when nobody writes there.
///
/// # Errors
/// As the system.
pub fn sweep_temporaries<D: Disk + ?Sized>(disk: &D, label: &'static str, directory: &Path) -> Result<usize> {
    let mut swept = 0;
    for entry in disk
        .list(directory)?
        .into_iter()
        .filter(|entry| !entry.is_dir && is_temporary(&entry.name))
    {
        disk.remove_file(label, &directory.join(entry.name))?;
        swept += 1;
    }
    Ok(swept)
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

/// The first free name of `.NAME.0.tmp`, `.NAME.1.tmp`, …: two writers of one path never share a temporary file, and a
/// simulation sees the same names in every run.
fn create_temporary<D: Disk + ?Sized>(
    disk: &D,
    label: &'static str,
    path: &Path,
    mode: u32,
) -> Result<(PathBuf, Box<dyn crate::DiskFile>)> {
    let name = path.file_name().ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidInput,
            format!("{} names no file", path.display()),
        )
    })?;
    let options = OpenOptions {
        mode,
        ..OpenOptions::CREATE_NEW
    };
    let mut attempt = 0_u64;
    loop {
        let temporary = path.with_file_name(format!(".{}.{attempt}.tmp", name.display()));
        match disk.open(label, &temporary, options) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}

fn is_temporary(name: &str) -> bool {
    let Some(number) = name
        .strip_prefix('.')
        .and_then(|name| name.strip_suffix(".tmp"))
        .and_then(|name| name.rsplit_once('.'))
    else {
        return false;
    };
    !number.0.is_empty() && !number.1.is_empty() && number.1.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests;
