//! Who is primary, as the file says.

use std::time::Duration;

use lease::{ConsulConfig, EtcdConfig, Login, TlsFiles};
use objstore::{Key, Retries, S3Config, Timeouts};

use super::{Problems, raw};

/// Consul takes no session that lasts less.
const CONSUL_TTL_MIN: Duration = Duration::from_secs(10);
/// Requests need their time.
const RECORD_TTL_MIN: Duration = Duration::from_secs(1);

/// Who is primary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseConfig {
    /// The candidate.
    Static,
    /// Whoever has a lock in Consul.
    Consul(ConsulConfig),
    /// Whoever has a key in etcd.
    Etcd(EtcdConfig),
    /// Whoever has an object in a store.
    Object {
        /// The bucket.
        store: Box<S3Config>,
        /// The object.
        key: Key,
        /// How long a lease is held.
        ttl: Duration,
    },
}

/// Reads the part of the file. What cannot be used is told.
pub(super) fn read(raw: &raw::Lease, problems: &mut Problems) -> LeaseConfig {
    match raw.kind.as_str() {
        "static" => {
            if raw.promote {
                problems.add("lease.promote: static leases are not handed over");
            }
            if !raw.candidate && raw.advertise_url.is_empty() {
                problems.add("lease.advertise-url: a replica must know where its primary is");
            }
            LeaseConfig::Static
        }
        "consul" => consul(&raw.consul, problems),
        "etcd" => etcd(&raw.etcd, problems),
        "object" => object(&raw.object, problems),
        other => {
            problems.add(format!(
                "invalid lease type, must be either 'consul' or 'static', or 'etcd' or 'object', got: '{other}'"
            ));
            LeaseConfig::Static
        }
    }
}

fn consul(raw: &raw::Consul, problems: &mut Problems) -> LeaseConfig {
    let ttl = problems.duration("lease.consul.ttl", &raw.ttl);
    let lock_delay = problems.duration("lease.consul.lock-delay", &raw.lock_delay);
    if ttl < CONSUL_TTL_MIN {
        problems.add("lease.consul.ttl: consul takes 10s at least");
    }
    match ConsulConfig::new(&raw.url, &raw.key, ttl, lock_delay) {
        Ok(config) => LeaseConfig::Consul(config),
        Err(error) => {
            problems.add(format!("lease.consul: {error}"));
            LeaseConfig::Static
        }
    }
}

fn etcd(raw: &raw::Etcd, problems: &mut Problems) -> LeaseConfig {
    let ttl = problems.duration("lease.etcd.ttl", &raw.ttl);
    if ttl < RECORD_TTL_MIN {
        problems.add("lease.etcd.ttl: 1s at least");
    }
    let lock_delay = problems.duration("lease.etcd.lock-delay", &raw.lock_delay);
    if raw.username.is_empty() != raw.password.is_empty() {
        problems.add("lease.etcd: username and password go together");
    }
    let tls = &raw.tls;
    if tls.cert_file.is_empty() != tls.key_file.is_empty() {
        problems.add("lease.etcd.tls: cert-file and key-file go together");
    }
    let mut config = match EtcdConfig::new(&raw.endpoints, &raw.key, ttl) {
        Ok(config) => config,
        Err(error) => {
            problems.add(format!("lease.etcd: {error}"));
            return LeaseConfig::Static;
        }
    };
    config.lock_delay = lock_delay;
    config.login = (!raw.username.is_empty()).then(|| Login {
        username: raw.username.clone(),
        password: raw.password.clone(),
    });
    config.tls.ca = (!tls.ca_file.is_empty()).then(|| tls.ca_file.clone().into());
    config.tls.identity =
        (!tls.cert_file.is_empty()).then(|| (tls.cert_file.clone().into(), tls.key_file.clone().into()));
    let encrypted = |endpoint: &String| endpoint.starts_with("https://");
    if config.tls != TlsFiles::default() && !config.endpoints.iter().all(encrypted) {
        problems.add("lease.etcd.tls: an endpoint is not https");
    }
    LeaseConfig::Etcd(config)
}

fn object(raw: &raw::Object, problems: &mut Problems) -> LeaseConfig {
    let ttl = problems.duration("lease.object.ttl", &raw.ttl);
    if ttl < RECORD_TTL_MIN {
        problems.add("lease.object.ttl: 1s at least");
    }
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let mut store = S3Config::new("", &raw.bucket, "", "");
    store.endpoint = given(&raw.endpoint);
    store.region.clone_from(&raw.region);
    store.prefix.clone_from(&raw.prefix);
    store.access_key_id = given(&raw.access_key_id);
    store.secret_access_key = given(&raw.secret_access_key);
    // What takes longer than a third of the lease is of no use.
    let patience_ms = u64::try_from(ttl.as_millis() / 3).unwrap_or(u64::MAX).max(1);
    store.timeouts = Timeouts {
        connect_ms: patience_ms,
        attempt_ms: patience_ms,
        read_ms: patience_ms,
        write_ms: patience_ms,
    };
    store.retries = Retries {
        attempts_max: 3,
        ..Retries::default()
    };
    if let Err(error) = store.check() {
        problems.add(format!("lease.object: {error}"));
    }
    match Key::new(&raw.key) {
        Ok(key) => LeaseConfig::Object {
            store: Box::new(store),
            key,
            ttl,
        },
        Err(error) => {
            problems.add(format!("lease.object.key: {error}"));
            LeaseConfig::Static
        }
    }
}
