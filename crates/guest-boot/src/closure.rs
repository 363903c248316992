//! Programs of the build host, with the libraries they load.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

/// A file of the host that goes into a guest under `path`.
#[derive(Debug, Clone)]
pub struct HostFile {
    /// Where it goes.
    pub path: PathBuf,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Why a program could not be taken from the host.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// No such program.
    #[error("{name} is not installed; run `cargo xtask setup`")]
    Missing { name: String },
    /// The loader would not find one of its libraries either.
    #[error("{program} lacks a library: {line}")]
    Library { program: PathBuf, line: String },
    /// `ldd` could not be asked.
    #[error("ask ldd about {program}")]
    Ldd {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    /// A file is there and unreadable.
    #[error("read {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Returns the programs `names` (as `/sbin/NAME`) and every library they load, sorted by path.
///
/// # Errors
/// When one is not installed or cannot be read.
pub fn closure(names: &[&str]) -> Result<Vec<HostFile>, ClosureError> {
    let mut files = BTreeMap::new();
    for name in names {
        let host_path = find(name)?;
        files.insert(Path::new("/sbin").join(name), read(&host_path)?);
        for library in libraries(&host_path)? {
            let bytes = read(&library)?;
            files.insert(library, bytes);
        }
    }
    let files = files.into_iter();
    Ok(files.map(|(path, bytes)| HostFile { path, bytes }).collect())
}

/// Returns where the host has the program `name`.
///
/// # Errors
/// When it is not installed.
pub fn find(name: &str) -> Result<PathBuf, ClosureError> {
    let places = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let mut paths = places.iter().map(|dir| Path::new(dir).join(name));
    paths
        .find(|path| path.exists())
        .ok_or_else(|| ClosureError::Missing {
            name: name.to_owned(),
        })
}

/// Returns the libraries that `program` loads, its loader among them; none for a static program.
///
/// # Errors
/// When `ldd` is not there, or one of the libraries is not.
pub fn libraries(program: &Path) -> Result<Vec<PathBuf>, ClosureError> {
    let out = Command::new("ldd").arg(program).output();
    let out = out.map_err(|source| ClosureError::Ldd {
        program: program.to_owned(),
        source,
    })?;
    // `libuuid.so.1 => /lib/… (0x…)`, and the loader by its path alone.
    let text = String::from_utf8_lossy(&out.stdout);
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, "=>", "not", ..] => {
                return Err(ClosureError::Library {
                    program: program.to_owned(),
                    line: line.to_owned(),
                });
            }
            [_, "=>", path, ..] | [path, _] if path.starts_with('/') => found.push(PathBuf::from(path)),
            _ => {}
        }
    }
    Ok(found)
}

fn read(path: &Path) -> Result<Vec<u8>, ClosureError> {
    fs::read(path).map_err(|source| ClosureError::Read {
        path: path.to_owned(),
        source,
    })
}
