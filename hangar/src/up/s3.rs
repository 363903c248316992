//! The embedded object store: a child like the daemons, over files below the data directory.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crashsafe::RealDisk;
use s3_endpoint::{Credential, Credentials};

use super::UpError;
use super::child::Spec;
use super::config_files::write_file;
use crate::node::{Layout, NodeConfig, Programs};

mod serve;

pub use serve::main;

/// The one bucket of the embedded store.
pub const BUCKET: &str = "hangar";
/// Who volumed is to the store, and which keys it may touch.
const VOLUMED: (&str, &str) = ("volumed", "volumes");

/// The embedded store as the node uses it.
#[derive(Debug, Clone)]
pub(super) struct Embedded {
    /// Where it listens, loopback unless the operator said otherwise.
    pub(super) address: SocketAddr,
    volumed: Credential,
}

impl Embedded {
    /// What volumed is told: its own credentials, which open its own keys and no others.
    pub(super) fn client_config(&self) -> objstore::S3Config {
        let endpoint = format!("http://{}", self.address);
        let (id, secret) = (&self.volumed.access_key_id, &self.volumed.secret_access_key);
        let mut config = objstore::S3Config::new(&endpoint, BUCKET, id, secret);
        config.prefix = VOLUMED.1.to_owned();
        config
    }
}

/// Chooses the address, the same as last time where it is still free, and issues the credentials.
pub(super) fn prepare(layout: &Layout, node: &NodeConfig) -> Result<Embedded, UpError> {
    let credentials = Credentials::open(Arc::new(RealDisk), &credentials_path(&layout.below("s3")))
        .map_err(UpError::Credentials)?;
    let prefix = format!("{}/", VOLUMED.1);
    let volumed = credentials
        .issue(VOLUMED.0, &prefix)
        .map_err(UpError::Credentials)?;
    let address = choose_address(&address_record(layout), &node.s3_listen)?;
    Ok(Embedded { address, volumed })
}

/// The child process that serves it: this program again, under a hidden command.
pub(super) fn child(layout: &Layout, programs: &Programs, embedded: &Embedded) -> Spec {
    let directory = layout.below("s3");
    let address = embedded.address.to_string();
    let arguments = vec![
        "s3-serve".into(),
        "--directory".into(),
        directory.into(),
        "--listen".into(),
        address.into(),
    ];
    Spec::new(layout, "s3", programs.path("hangar"), arguments)
}

/// Where the store's credentials are.
pub fn credentials_path(directory: &Path) -> PathBuf {
    directory.join("credentials.toml")
}

/// Where the address of the last start is.
pub fn address_record(layout: &Layout) -> PathBuf {
    layout.below("run/s3.addr")
}

fn choose_address(record: &Path, configured: &str) -> Result<SocketAddr, UpError> {
    let failed = |source| UpError::StoreAddress {
        address: configured.to_owned(),
        source,
    };
    let bad = |_| {
        failed(std::io::Error::new(
            std::io::ErrorKind::InvalidInput,
            "not an address and a port",
        ))
    };
    let configured_address: SocketAddr = configured.parse().map_err(bad)?;
    if configured_address.port() != 0 {
        return Ok(configured_address);
    }
    let before = std::fs::read_to_string(record)
        .ok()
        .and_then(|text| text.trim().parse::<SocketAddr>().ok());
    // Bound and let go: the child takes it a moment later. Should another program be faster, the child's
    // restarts do not help, but the next `hangar up` chooses anew.
    let free = before
        .filter(|before| before.ip() == configured_address.ip())
        .and_then(|before| TcpListener::bind(before).ok())
        .map_or_else(|| TcpListener::bind(configured_address), Ok)
        .and_then(|listener| listener.local_addr())
        .map_err(failed)?;
    write_file(record, &format!("{free}\n"))?;
    Ok(free)
}

#[cfg(test)]
mod tests;
