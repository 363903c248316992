//! File system makers for the guest, taken from the build host with the libraries they load.

use crate::shell;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A file of the host that goes into the initramfs under `path`.
pub(super) struct HostFile {
    pub(super) path: PathBuf,
    pub(super) bytes: Vec<u8>,
}

/// Returns the programs `names` (as `/sbin/NAME`) and every library they load, sorted by path.
pub(super) fn closure(names: &[&str]) -> Result<Vec<HostFile>> {
    let mut files = BTreeMap::new();
    for name in names {
        let host_path = find(name)?;
        files.insert(Path::new("/sbin").join(name), read(&host_path)?);
        for library in libraries(&host_path)? {
            let bytes = read(&library)?;
            files.insert(library, bytes);
        }
    }
    Ok(files
        .into_iter()
        .map(|(path, bytes)| HostFile { path, bytes })
        .collect())
}

fn find(name: &str) -> Result<PathBuf> {
    for dir in ["/usr/sbin", "/sbin", "/usr/bin", "/bin"] {
        let path = Path::new(dir).join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{name} is not installed (packages e2fsprogs, xfsprogs)")
}

/// Parses what `ldd` prints: `libuuid.so.1 => /lib/… (0x…)`, and the loader by its path alone.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = shell::output(Command::new("ldd").arg(program))?;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "=>", "not", ..] => bail!("{} lacks a library: {line}", program.display()),
            [_, "=>", path, ..] | [path, _] if path.starts_with('/') => found.push(PathBuf::from(path)),
            _ => {}
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("read {}", path.display()))
}
