//! PURE. Where etcd is, who asks it, and what the lease is called there.

use std::{fmt, path::PathBuf, time::Duration};

use http::Uri;

/// An attempt is given as much at least.
const ATTEMPT_MIN: Duration = Duration::from_millis(100);

/// Where etcd is, who asks it, and what the lease is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// Its members, one at least: `http://host:port` or `https://host:port`.
    pub endpoints: Vec<String>,
    /// Under which key.
    pub key: String,
    /// How long a lease is held.
    pub ttl: Duration,
    /// How much longer others wait before they take it.
    pub lock_delay: Duration,
    /// Who asks; nobody where etcd does not want to know.
    pub login: Option<Login>,
    /// How members and this node prove who they are.
    pub tls: TlsFiles,
}

/// A user of etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("username", &self.username)
            .finish_non_exhaustive()
    }
}

/// PEM files for members at `https://`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Who signs for the members; nothing: whom the system believes.
    pub ca: Option<PathBuf>,
    /// This node's own certificate, and its key, where members want one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Why etcd cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EtcdConfigError {
    /// It is nowhere.
    #[error("etcd endpoints required")]
    NoEndpoints,
    /// The URL is none, or says more than where a member is.
    #[error("'{0}' is no url of a member of etcd, such as http://localhost:2379")]
    Endpoint(String),
    /// The key is missing.
    #[error("etcd key required")]
    Key,
}

impl EtcdConfig {
    /// Reads where etcd is. Nobody logs in, and members are believed whom the system believes.
    ///
    /// * `ttl`: how long a lease is held.
    ///
    /// # Errors
    /// An endpoint is none, or there is none.
    pub fn new(endpoints: &[String], key: &str, ttl: Duration) -> Result<Self, EtcdConfigError> {
        if endpoints.is_empty() {
            return Err(EtcdConfigError::NoEndpoints);
        }
        if key.is_empty() {
            return Err(EtcdConfigError::Key);
        }
        Ok(Self {
            endpoints: endpoints
                .iter()
                .map(|text| endpoint(text))
                .collect::<Result<_, _>>()?,
            key: key.to_owned(),
            ttl,
            lock_delay: Duration::ZERO,
            login: None,
            tls: TlsFiles::default(),
        })
    }

    /// Returns how long one member may take to answer: all of them together a third of the lease.
    #[must_use]
    pub fn attempt(&self) -> Duration {
        let members = u32::try_from(self.endpoints.len()).unwrap_or(u32::MAX);
        (self.ttl / 3 / members.max(1)).max(ATTEMPT_MIN)
    }
}

fn endpoint(text: &str) -> Result<String, EtcdConfigError> {
    let wrong = || EtcdConfigError::Endpoint(text.to_owned());
    let uri: Uri = text.parse().map_err(|_| wrong())?;
    let scheme = uri
        .scheme_str()
        .filter(|scheme| ["http", "https"].contains(scheme))
        .ok_or_else(wrong)?;
    let authority = uri.authority().ok_or_else(wrong)?;
    let bare = uri.path().trim_matches('/').is_empty() && uri.query().is_none();
    if authority.host().is_empty() || authority.as_str().contains('@') || !bare {
        return Err(wrong());
    }
    let port = if authority.port().is_none() { ":2379" } else { "" };
    Ok(format!("{scheme}://{authority}{port}"))
}
