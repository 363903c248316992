//! The file as it is written.

use serde::Deserialize;

/// The whole file. A key that is not here is an error.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawConfig {
    /// A start that fails ends the process.
    pub exit_on_error: bool,
    /// Commands start before the node is in sync.
    pub skip_sync: bool,
    /// The whole database is checked after each commit.
    pub strict_verify: bool,
    /// What is run.
    pub exec: Exec,
    /// The data directory.
    pub data: Data,
    /// The mount.
    pub fuse: Fuse,
    /// The API.
    pub http: Http,
    /// The proxy.
    pub proxy: Proxy,
    /// Who is primary.
    pub lease: Lease,
    /// Backups.
    pub backup: Backup,
    /// The log.
    pub log: Log,
    /// The trace log.
    pub tracing: Tracing,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            exit_on_error: true,
            skip_sync: false,
            strict_verify: false,
            exec: Exec::None,
            data: Data::default(),
            fuse: Fuse::default(),
            http: Http::default(),
            proxy: Proxy::default(),
            lease: Lease::default(),
            backup: Backup::default(),
            log: Log::default(),
            tracing: Tracing::default(),
        }
    }
}

/// What is run: one command line, or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub enum Exec {
    /// Nothing.
    #[default]
    None,
    /// One command.
    One(String),
    /// One after the other, the last one kept running.
    Several(Vec<ExecEntry>),
}

/// One of several commands.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExecEntry {
    /// The command line.
    pub cmd: String,
    /// Left out where the node cannot become primary.
    #[serde(default)]
    pub if_candidate: bool,
}

/// The data directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Data {
    /// Where it is.
    pub dir: String,
    /// LTX files are compressed.
    pub compress: bool,
    /// How old LTX files get; 0 or less: they stay.
    pub retention: String,
    /// How often that is looked at; 0: never.
    pub retention_monitor_interval: String,
}

impl Default for Data {
    fn default() -> Self {
        Self {
            dir: "/var/lib/litefs".to_owned(),
            compress: true,
            retention: "10m".to_owned(),
            retention_monitor_interval: "1m".to_owned(),
        }
    }
}

/// The mount.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Fuse {
    /// Where it is.
    pub dir: String,
    /// Other users may use it.
    pub allow_other: bool,
    /// The log tells requests.
    pub debug: bool,
}

impl Default for Fuse {
    fn default() -> Self {
        Self {
            dir: "/litefs".to_owned(),
            allow_other: false,
            debug: false,
        }
    }
}

/// The API.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Http {
    /// Where it listens.
    pub addr: String,
    /// How long one snapshot may take; 0: as long as transactions are kept.
    pub snapshot_timeout: String,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            addr: format!(":{}", super::HTTP_PORT),
            snapshot_timeout: "0".to_owned(),
        }
    }
}

/// The proxy.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Proxy {
    /// Where it listens.
    pub addr: String,
    /// The application.
    pub target: String,
    /// Its database.
    pub db: String,
    /// How far behind a healthy node may be.
    pub max_lag: String,
    /// The log tells requests.
    pub debug: bool,
    /// Paths that are passed on as they are.
    pub passthrough: Vec<String>,
    /// Paths that go to the primary.
    pub always_forward: Vec<String>,
    /// How long a write waits for a primary.
    pub primary_redirect_timeout: String,
    /// How long a request may take to be read.
    pub read_timeout: String,
    /// How long its header may.
    pub read_header_timeout: String,
    /// How long an answer may take.
    pub write_timeout: String,
    /// How long a connection may be idle.
    pub idle_timeout: String,
    /// How a write comes to the primary: `carry`, `replay`, or what suits the platform. Ours.
    pub redirect: String,
    /// Where the primary's proxy listens; 0: where this node's does. Ours.
    pub primary_port: u16,
    /// The header that has a platform bring a request to another node. Ours.
    pub replay_header: String,
    /// What the cookie is called. Ours.
    pub cookie_name: String,
    /// How long a client keeps it. Ours.
    pub cookie_lasts: String,
}

impl Default for Proxy {
    fn default() -> Self {
        Self {
            addr: String::new(),
            target: String::new(),
            db: String::new(),
            max_lag: "10s".to_owned(),
            debug: false,
            passthrough: Vec::new(),
            always_forward: Vec::new(),
            primary_redirect_timeout: "5s".to_owned(),
            read_timeout: "0".to_owned(),
            read_header_timeout: "10s".to_owned(),
            write_timeout: "0".to_owned(),
            idle_timeout: "30s".to_owned(),
            redirect: "auto".to_owned(),
            primary_port: 0,
            replay_header: "fly-replay".to_owned(),
            cookie_name: "__txid".to_owned(),
            cookie_lasts: "5m".to_owned(),
        }
    }
}

/// Who is primary.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lease {
    /// `static`, `consul`, `etcd` or `object`.
    #[serde(rename = "type")]
    pub kind: String,
    /// This node's host name; with a static lease, the primary's.
    pub hostname: String,
    /// Where this node's API is; with a static lease, the primary's.
    pub advertise_url: String,
    /// This node may become primary; with a static lease it is.
    pub candidate: bool,
    /// It asks to become primary.
    pub promote: bool,
    /// How long a replica waits before it connects again.
    pub reconnect_delay: String,
    /// How long a node waits that was asked to step down.
    pub demote_delay: String,
    /// How long a replica has the write lock of a database, unless it asks again.
    pub halt_lock_ttl: String,
    /// Only these are replicated.
    pub databases: Vec<String>,
    /// Leases of Consul.
    pub consul: Consul,
    /// Leases in etcd.
    pub etcd: Etcd,
    /// Leases in an object store.
    pub object: Object,
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            kind: String::new(),
            hostname: String::new(),
            advertise_url: String::new(),
            candidate: true,
            promote: false,
            reconnect_delay: "1s".to_owned(),
            demote_delay: "10s".to_owned(),
            halt_lock_ttl: "30s".to_owned(),
            databases: Vec::new(),
            consul: Consul::default(),
            etcd: Etcd::default(),
            object: Object::default(),
        }
    }
}

/// Leases of Consul.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Consul {
    /// Where it is.
    pub url: String,
    /// Under which key.
    pub key: String,
    /// How long a lease is held.
    pub ttl: String,
    /// How long nobody gets it afterwards.
    pub lock_delay: String,
}

impl Default for Consul {
    fn default() -> Self {
        Self {
            url: String::new(),
            key: String::new(),
            ttl: "10s".to_owned(),
            lock_delay: "1s".to_owned(),
        }
    }
}

/// Leases in etcd.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Etcd {
    /// Where its members are.
    pub endpoints: Vec<String>,
    /// Under which key.
    pub key: String,
    /// How long a lease is held.
    pub ttl: String,
    /// How much longer others wait before they take it.
    pub lock_delay: String,
    /// Who asks; nothing where etcd does not want to know.
    pub username: String,
    /// Goes with it.
    pub password: String,
    /// How members at `https://` and this node prove who they are.
    pub tls: EtcdTls,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            endpoints: Vec::new(),
            key: "litefs/lease".to_owned(),
            ttl: "10s".to_owned(),
            lock_delay: "0s".to_owned(),
            username: String::new(),
            password: String::new(),
            tls: EtcdTls::default(),
        }
    }
}

/// PEM files.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EtcdTls {
    /// Who signs for the members; nothing: whom the system believes.
    pub ca_file: String,
    /// This node's certificate, where members want one.
    pub cert_file: String,
    /// Its key.
    pub key_file: String,
}

/// Leases in an object store.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Object {
    /// Where the store is; nothing for AWS's own.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// The bucket, which exists.
    pub bucket: String,
    /// Before the key; empty when there is nothing.
    pub prefix: String,
    /// Whose bucket it is; nothing: as the environment says.
    pub access_key_id: String,
    /// Goes with it.
    pub secret_access_key: String,
    /// Under which key.
    pub key: String,
    /// How long a lease is held.
    pub ttl: String,
}

impl Default for Object {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            bucket: String::new(),
            prefix: String::new(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            key: "litefs/lease".to_owned(),
            ttl: "10s".to_owned(),
        }
    }
}

/// Backups.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Backup {
    /// Of what kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// Where files go.
    pub path: String,
    /// Where the service is.
    pub url: String,
    /// Which cluster.
    pub cluster: String,
    /// Who we are.
    pub auth_token: String,
}

/// The log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Log {
    /// `text` or `json`.
    pub format: String,
    /// With the time; ours always has it.
    pub timestamp: bool,
    /// Requests too.
    pub debug: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: "text".to_owned(),
            timestamp: false,
            debug: false,
        }
    }
}

/// The trace log.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Tracing {
    /// It is written, if there is a path.
    pub enabled: bool,
    /// Where.
    pub path: String,
    /// Megabytes of a file.
    pub max_size: u64,
    /// Files that are kept.
    pub max_count: u64,
    /// Old files are compressed.
    pub compress: bool,
}

impl Default for Tracing {
    fn default() -> Self {
        Self {
            enabled: true,
            path: String::new(),
            max_size: 64,
            max_count: 8,
            compress: true,
        }
    }
}
