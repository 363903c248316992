//! PURE. Where Consul is, and what the lease is called there.

use std::time::Duration;

use http::Uri;

/// How often somebody who waits looks at Consul.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Where Consul is, and what the lease is called there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulConfig {
    /// The agent's host and port.
    pub authority: String,
    /// What requests carry to be allowed.
    pub token: Option<String>,
    /// Before every key; empty when there is none.
    pub prefix: String,
    /// Under which key.
    pub key: String,
    /// How long a session lasts; Consul takes 10 s at least.
    pub ttl: Duration,
    /// How long nobody gets the lock after its session has ended.
    pub lock_delay: Duration,
    /// How often somebody who waits looks.
    pub look_interval: Duration,
}

/// Why Consul cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConsulConfigError {
    /// The URL is none, or has no host.
    #[error("'{0}' is no url of a consul agent, such as http://localhost:8500/prefix")]
    Url(String),
    /// Only a plain agent can be reached: on this host, or behind something that encrypts.
    #[error("'{0}': consul is asked over http only")]
    Scheme(String),
    /// The key is missing.
    #[error("consul key required")]
    Key,
}

impl ConsulConfig {
    /// Reads a URL as LiteFS has it: `http://:TOKEN@HOST:PORT/PREFIX`.
    ///
    /// # Errors
    /// It is none.
    pub fn new(url: &str, key: &str, ttl: Duration, lock_delay: Duration) -> Result<Self, ConsulConfigError> {
        let wrong = || ConsulConfigError::Url(url.to_owned());
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(ConsulConfigError::Scheme(url.to_owned()));
        }
        let authority = uri.authority().ok_or_else(wrong)?.as_str();
        let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
        if host.is_empty() || uri.host().is_none_or(str::is_empty) {
            return Err(wrong());
        }
        let token = user.split_once(':').map(|(_, token)| token.to_owned());
        let port = if uri.port().is_none() { ":80" } else { "" };
        if key.is_empty() {
            return Err(ConsulConfigError::Key);
        }
        Ok(Self {
            authority: format!("{host}{port}"),
            token: token.filter(|token| !token.is_empty()),
            prefix: uri.path().trim_matches('/').to_owned(),
            key: key.trim_matches('/').to_owned(),
            ttl,
            lock_delay,
            look_interval: LOOK_INTERVAL,
        })
    }

    /// Returns the key of the lock.
    pub(super) fn key_path(&self) -> String {
        match self.prefix.as_str() {
            "" => self.key.clone(),
            prefix => format!("{prefix}/{}", self.key),
        }
    }

    /// Returns the node that sessions belong to.
    pub(super) fn node(&self) -> String {
        format!("{}/litefs", self.prefix)
    }
}

/// Returns a duration as Consul reads it.
pub(super) fn seconds(duration: Duration) -> String {
    format!("{}ms", duration.as_millis())
        .strip_suffix("000ms")
        .map_or_else(
            || format!("{}ms", duration.as_millis()),
            |whole| format!("{whole}s"),
        )
}
