//! Files that the host has us write into the root file system.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use guest_init::proto::GuestConfig;
use guest_init::proto::config::{self, Network};

/// Why a file was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The content is not base64.
    #[error("decode the content of {path}")]
    Content {
        path: String,
        #[source]
        source: base64::DecodeError,
    },
    /// The path does not start at the root.
    #[error("path {path:?} is not absolute")]
    Path { path: String },
    /// The root file system refused.
    #[error("write {path}")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

/// Writes the files of `config.files`.
pub(crate) fn write_all(files: &[config::File]) -> Result<(), FileError> {
    for file in files {
        let path = file.guest_path.clone();
        if !path.starts_with('/') {
            return Err(FileError::Path { path });
        }
        let content = match STANDARD.decode(&file.content) {
            Ok(content) => content,
            Err(source) => return Err(FileError::Content { path, source }),
        };
        put(Path::new(&path), &content, file.mode.unwrap_or(0o644))?;
    }
    Ok(())
}

/// Writes what makes the machine know its name and find others.
pub(crate) fn write_identity(config: &GuestConfig) -> Result<(), FileError> {
    put(
        Path::new("/etc/hostname"),
        format!("{}\n", config.hostname).as_bytes(),
        0o644,
    )?;
    put(Path::new("/etc/hosts"), hosts(config).as_bytes(), 0o644)?;
    put(
        Path::new("/etc/resolv.conf"),
        resolv_conf(config).as_bytes(),
        0o644,
    )
}

fn hosts(config: &GuestConfig) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    if let Some(app_net) = &config.network.app_net {
        let _ = writeln!(text, "{}\t{} fly-local-6pn", app_net.address, config.hostname);
    } else {
        let _ = writeln!(text, "127.0.1.1\t{}", config.hostname);
    }
    for host in &config.hosts {
        let _ = writeln!(text, "{}\t{}", host.address, host.names.join(" "));
    }
    text
}

fn resolv_conf(config: &GuestConfig) -> String {
    let mut text = String::new();
    let own = [IpAddr::V6(Network::RESOLVER)];
    let servers = if config.dns.nameservers.is_empty() {
        &own[..]
    } else {
        &config.dns.nameservers
    };
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !config.dns.searches.is_empty() {
        let _ = writeln!(text, "search {}", config.dns.searches.join(" "));
    }
    if !config.dns.options.is_empty() {
        let _ = writeln!(text, "options {}", config.dns.options.join(" "));
    }
    text
}

/// Writes a file, in place of whatever has its name: images like to have symbolic links there.
pub(crate) fn put(path: &Path, content: &[u8], mode: u32) -> Result<(), FileError> {
    let write = || -> io::Result<()> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        if fs::symlink_metadata(path).is_ok_and(|meta| meta.is_symlink()) {
            fs::remove_file(path)?;
        }
        let mut file = File::create(path)?;
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        file.write_all(content)
    };
    write().map_err(|source| FileError::Write {
        path: path.display().to_string(),
        source,
    })
}

#[cfg(test)]
mod tests;
