//! Credentials as `docker login` leaves them in its configuration file.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crashsafe::{Disk, OpenOptions};
use oci_client::secrets::RegistryAuth;
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ConfigFile {
    auths: BTreeMap<String, Entry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    /// Base64 of `user:password`.
    auth: String,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(redacted)")
    }
}

/// Returns the credentials for a registry; `None` when the file has none that can be read.
pub(super) fn find(disk: &dyn Disk, path: &Path, registry: &str) -> Option<RegistryAuth> {
    let file = disk.open("images:credentials", path, OpenOptions::READ).ok()?;
    let mut bytes = vec![0; usize::try_from(file.len().ok()?).ok()?];
    file.read_exact_at(&mut bytes, 0).ok()?;
    match serde_json::from_slice(&bytes) {
        Ok(config) => pick(&config, registry),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "docker's configuration file did not parse");
            None
        }
    }
}

fn pick(config: &ConfigFile, registry: &str) -> Option<RegistryAuth> {
    let entry = config
        .auths
        .iter()
        .find(|(key, _)| host_of(key) == docker_hub_as(registry))
        .map(|(_, entry)| entry)?;
    let decoded = String::from_utf8(STANDARD.decode(&entry.auth).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some(RegistryAuth::Basic(user.to_owned(), password.to_owned()))
}

/// Keys are hosts, or addresses with a scheme and a path.
fn host_of(key: &str) -> &str {
    let rest = key.split_once("://").map_or(key, |(_, rest)| rest);
    rest.split('/').next().unwrap_or(rest)
}

fn docker_hub_as(registry: &str) -> &str {
    if registry == "docker.io" {
        "index.docker.io"
    } else {
        registry
    }
}

#[cfg(test)]
mod tests;
