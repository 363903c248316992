//! The lists and small objects of a configuration: init, mounts, services, checks, files, stop, names.

use std::time::Duration;

use base64::Engine as _;
use serde_json::{Map, Value};

use super::fields::{Fields, InvalidConfig};
use super::{
    AutoExtend, FileSource, FileSpec, Init, MOUNTS_MAX, Mount, STOP_TIMEOUT_DEFAULT, STOP_TIMEOUT_MAX,
    Service,
};
use crate::checks::{CheckKind, CheckSpec, HttpCheck};

/// Most GB that a volume grows by at a time, as `fly` has it.
const AUTO_EXTEND_GB_MAX: u32 = 100;
/// Bytes that one file may have.
const FILE_BYTES_MAX: usize = 1 << 20;
const SIGNALS: [(&str, i32); 7] = [
    ("SIGHUP", 1),
    ("SIGINT", 2),
    ("SIGQUIT", 3),
    ("SIGKILL", 9),
    ("SIGUSR1", 10),
    ("SIGUSR2", 12),
    ("SIGTERM", 15),
];

/// Number of a stop signal's name, with or without `SIG`, in any case.
pub(crate) fn signal_number(name: &str) -> Option<i32> {
    let upper = name.to_ascii_uppercase();
    SIGNALS
        .iter()
        .find(|(known, _)| upper == *known || upper == known[3..])
        .map(|(_, number)| *number)
}

pub(super) fn init(config: &Fields<'_>) -> Result<Init, InvalidConfig> {
    let user = config.text("user")?.filter(|user| !user.is_empty());
    let Some(init) = config.object("init")? else {
        return Ok(Init {
            user,
            ..Init::default()
        });
    };
    init.only(&["exec", "entrypoint", "cmd", "tty", "swap_size_mb", "user"])?;
    Ok(Init {
        exec: init.texts("exec")?.unwrap_or_default(),
        entrypoint: init.texts("entrypoint")?.filter(|words| !words.is_empty()),
        cmd: init.texts("cmd")?.filter(|words| !words.is_empty()),
        user: init.text("user")?.filter(|user| !user.is_empty()).or(user),
        swap_mb: init.integer("swap_size_mb", 0..=65_536)?.unwrap_or(0),
        tty: init.flag("tty")?,
    })
}

pub(super) fn mounts(config: &Map<String, Value>) -> Result<Vec<Mount>, InvalidConfig> {
    let mut mounts: Vec<Mount> = Vec::new();
    for mount in Fields::of("config", config).list("mounts")? {
        mount.only(&[
            "volume",
            "path",
            "name",
            "size_gb",
            "encrypted",
            "extend_threshold_percent",
            "add_size_gb",
            "add_size_percent",
            "min_add_size_gb",
            "size_gb_limit",
        ])?;
        let volume = mount
            .text("volume")?
            .filter(|volume| !volume.is_empty())
            .ok_or_else(|| {
                mount.error(
                    "volume",
                    "is required: create a volume first and name its id, e.g. vol_1234567890abcdef",
                )
            })?;
        if !volume
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            || volume.len() > 64
        {
            return Err(mount.error("volume", format!("must be a volume id, got {volume:?}")));
        }
        let path = mount.guest_path("path")?;
        if mounts.iter().any(|other| other.volume == volume) {
            return Err(mount.error("volume", format!("{volume} is mounted twice")));
        }
        if mounts.iter().any(|other| other.path == path) {
            return Err(mount.error("path", format!("{path} is used twice")));
        }
        mounts.push(Mount {
            volume,
            path,
            auto_extend: auto_extend(&mount)?,
        });
    }
    if mounts.len() > MOUNTS_MAX {
        return Err(InvalidConfig::new(
            "config.mounts",
            format!("at most {MOUNTS_MAX} volumes a machine"),
        ));
    }
    Ok(mounts)
}

/// Reads the settings of a mount that grows by itself; without a threshold, or with 0, it does not.
fn auto_extend(mount: &Fields<'_>) -> Result<Option<AutoExtend>, InvalidConfig> {
    let threshold = mount.integer("extend_threshold_percent", 0..=99)?;
    let add_size_gb = mount.integer("add_size_gb", 0..=AUTO_EXTEND_GB_MAX)?;
    let limit = mount.integer("size_gb_limit", 0..=u32::MAX)?;
    let Some(threshold_percent) = threshold.filter(|percent| *percent > 0) else {
        return Ok(None);
    };
    let Some(add_size_gb) = add_size_gb.filter(|gb| *gb > 0) else {
        let sentence = "is required with extend_threshold_percent: by how many GB the volume grows";
        return Err(mount.error("add_size_gb", sentence));
    };
    Ok(Some(AutoExtend {
        threshold_percent,
        add_size_gb,
        size_gb_limit: limit.filter(|gb| *gb > 0),
    }))
}

/// Services as ports and as objects that carry checks.
pub(super) struct Services<'a> {
    pub(super) ports: Vec<Service>,
    pub(super) specs: Vec<(usize, Fields<'a>, u16)>,
}

pub(super) fn services(config: &Map<String, Value>) -> Result<Services<'_>, InvalidConfig> {
    let mut services = Services {
        ports: Vec::new(),
        specs: Vec::new(),
    };
    for (index, service) in Fields::of("config", config)
        .list("services")?
        .into_iter()
        .enumerate()
    {
        let protocol = service
            .text("protocol")?
            .filter(|text| !text.is_empty())
            .unwrap_or_else(|| "tcp".to_owned());
        if protocol != "tcp" && protocol != "udp" {
            return Err(service.error("protocol", format!("must be tcp or udp, got {protocol:?}")));
        }
        let internal_port = service.port("internal_port")?;
        let internal_port =
            internal_port.ok_or_else(|| service.error("internal_port", "is required, 1 to 65535"))?;
        for port in service.list("ports")? {
            port.port("port")?;
        }
        services.ports.push(Service {
            protocol,
            internal_port,
        });
        services.specs.push((index, service, internal_port));
    }
    Ok(services)
}

pub(super) fn checks(
    config: &Map<String, Value>,
    services: &[(usize, Fields<'_>, u16)],
) -> Result<Vec<CheckSpec>, InvalidConfig> {
    let mut checks = Vec::new();
    if let Some(named) = Fields::of("config", config).object("checks")? {
        for (name, value) in named.entries() {
            let check = Fields::from_value(format!("config.checks.{name}"), value)?;
            checks.push(one_check(name.clone(), &check, None)?);
        }
    }
    for (index, service, internal_port) in services {
        for check in service.list("checks")? {
            let kind = check.text("type")?.unwrap_or_default();
            let port = check.port("port")?.unwrap_or(*internal_port);
            let name = format!("servicecheck-{index:02}-{kind}-{port}");
            checks.push(one_check(name, &check, Some(*internal_port))?);
        }
    }
    Ok(checks)
}

fn one_check(
    name: String,
    check: &Fields<'_>,
    default_port: Option<u16>,
) -> Result<CheckSpec, InvalidConfig> {
    check.only(&[
        "type",
        "port",
        "interval",
        "timeout",
        "grace_period",
        "method",
        "path",
        "protocol",
        "tls_skip_verify",
        "tls_server_name",
        "headers",
        "kind",
    ])?;
    let port = check
        .port("port")?
        .or(default_port)
        .ok_or_else(|| check.error("port", "is required, 1 to 65535"))?;
    let kind = match check.text("type")?.as_deref() {
        Some("tcp") => CheckKind::Tcp,
        Some("http") => CheckKind::Http(http_check(check)?),
        other => return Err(check.error("type", format!("must be tcp or http, got {other:?}"))),
    };
    let second = Duration::from_secs(1);
    let interval = check.duration("interval", second..=Duration::from_hours(1))?;
    let timeout = check.duration("timeout", Duration::from_millis(100)..=Duration::from_secs(60))?;
    let grace = check.duration("grace_period", Duration::ZERO..=Duration::from_hours(1))?;
    Ok(CheckSpec {
        name,
        kind,
        port,
        interval: interval.unwrap_or(Duration::from_secs(15)),
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        grace: grace.unwrap_or(Duration::from_secs(1)),
    })
}

fn http_check(check: &Fields<'_>) -> Result<HttpCheck, InvalidConfig> {
    match check.text("protocol")?.as_deref() {
        None | Some("" | "http") => {}
        Some(other) => return Err(check.error("protocol", format!("must be http here, got {other:?}"))),
    }
    let method = check
        .text("method")?
        .filter(|method| !method.is_empty())
        .unwrap_or_else(|| "GET".to_owned());
    let method = method.to_ascii_uppercase();
    if !["GET", "HEAD", "POST", "PUT", "OPTIONS"].contains(&method.as_str()) {
        return Err(check.error(
            "method",
            format!("must be GET, HEAD, POST, PUT or OPTIONS, got {method:?}"),
        ));
    }
    let path = check
        .text("path")?
        .filter(|path| !path.is_empty())
        .unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') || path.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(check.error(
            "path",
            format!("must begin with / and hold no white space, got {path:?}"),
        ));
    }
    let mut headers = Vec::new();
    for header in check.list("headers")? {
        let name = header.text("name")?.unwrap_or_default();
        if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
            return Err(header.error("name", format!("must be a header name, got {name:?}")));
        }
        for value in header.texts("values")?.unwrap_or_default() {
            if http::HeaderValue::from_str(&value).is_err() {
                return Err(header.error("values", format!("must be header values, got {value:?}")));
            }
            headers.push((name.clone(), value));
        }
    }
    Ok(HttpCheck {
        method,
        path,
        headers,
    })
}

pub(super) fn files(config: &Map<String, Value>) -> Result<Vec<FileSpec>, InvalidConfig> {
    let mut files = Vec::new();
    for file in Fields::of("config", config).list("files")? {
        file.only(&["guest_path", "raw_value", "secret_name", "mode"])?;
        let guest_path = file.guest_path("guest_path")?;
        let mode = file
            .integer("mode", 0..=0o7777)?
            .filter(|mode| *mode > 0)
            .unwrap_or(0o644);
        let source = match (file.text("raw_value")?, file.text("secret_name")?) {
            (Some(raw), None) => {
                let bytes = base64::engine::general_purpose::STANDARD.decode(raw.as_bytes());
                let bytes =
                    bytes.map_err(|error| file.error("raw_value", format!("must be base64: {error}")))?;
                if bytes.len() > FILE_BYTES_MAX {
                    return Err(file.error("raw_value", format!("must be at most {FILE_BYTES_MAX} bytes")));
                }
                FileSource::Raw(bytes)
            }
            (None, Some(secret)) if !secret.is_empty() => FileSource::Secret(secret),
            _ => return Err(file.error("raw_value", "or secret_name is required, and not both")),
        };
        files.push(FileSpec {
            guest_path,
            source,
            mode,
        });
    }
    Ok(files)
}

pub(super) fn stop_config(config: &Fields<'_>) -> Result<(Option<i32>, Duration), InvalidConfig> {
    let Some(stop) = config.object("stop_config")? else {
        return Ok((None, STOP_TIMEOUT_DEFAULT));
    };
    stop.only(&["timeout", "signal"])?;
    let signal = match stop.text("signal")?.filter(|signal| !signal.is_empty()) {
        None => None,
        Some(name) => Some(signal_number(&name).ok_or_else(|| {
            let names = SIGNALS.map(|(name, _)| name).join(", ");
            stop.error("signal", format!("must be one of {names}, got {name:?}"))
        })?),
    };
    let timeout = stop
        .duration("timeout", Duration::ZERO..=STOP_TIMEOUT_MAX)?
        .filter(|timeout| !timeout.is_zero());
    Ok((signal, timeout.unwrap_or(STOP_TIMEOUT_DEFAULT)))
}

/// What of `dns` is honoured.
pub(super) struct Names {
    pub(super) hostname: Option<String>,
    pub(super) skip_registration: bool,
}

pub(super) fn dns(config: &Fields<'_>) -> Result<Names, InvalidConfig> {
    let Some(dns) = config.object("dns")? else {
        return Ok(Names {
            hostname: None,
            skip_registration: false,
        });
    };
    dns.only(&["skip_registration", "hostname"])?;
    let hostname = dns.text("hostname")?.filter(|name| !name.is_empty());
    if let Some(name) = &hostname {
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        if name.len() > 64 || !name.split('.').all(label) {
            return Err(dns.error("hostname", format!("must be a host name, got {name:?}")));
        }
    }
    Ok(Names {
        hostname,
        skip_registration: dns.flag("skip_registration")?,
    })
}
