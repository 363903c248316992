//! The proxy, as the file says.

use std::net::SocketAddr;

use http::HeaderName;

use super::{Problems, address, raw};
use crate::proxy::{ProxySettings, Redirect, Rules};

/// Set where requests are brought to another machine by a header of the answer.
const PLATFORM: &str = "FLY_APP_NAME";

/// Reads the part of the file; nothing when there is no proxy. What cannot be used is told.
pub(super) fn read(raw: raw::Proxy, on_platform: bool, problems: &mut Problems) -> Option<ProxySettings> {
    if raw.target.is_empty() {
        return None;
    }
    for (value, missing) in [
        (&raw.db, "proxy database name required"),
        (&raw.addr, "proxy bind address required"),
    ] {
        if value.is_empty() {
            problems.add(missing);
        }
    }
    let address = address("proxy.addr", &raw.addr).map_err(|problem| problems.add(problem));
    let target = raw.target.parse().map_err(|_| {
        problems.add(format!("proxy.target: '{}' is no host with a port", raw.target));
    });
    let database = raw.db.parse().map_err(|error| {
        if !raw.db.is_empty() {
            problems.add(format!("proxy.db: {error}"));
        }
    });
    let replay_header: Result<HeaderName, ()> = raw.replay_header.parse().map_err(|_| {
        problems.add(format!(
            "proxy.replay-header: '{}' is no header",
            raw.replay_header
        ));
    });
    let is_token = |text: &str| {
        let special = |byte: u8| b"!#$%&'*+-.^_`|~".contains(&byte);
        !text.is_empty()
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || special(byte))
    };
    if !is_token(&raw.cookie_name) {
        problems.add(format!(
            "proxy.cookie-name: '{}' is no name of a cookie",
            raw.cookie_name
        ));
    }
    let replays = match raw.redirect.as_str() {
        "auto" => on_platform,
        "replay" => true,
        "carry" => false,
        other => {
            problems.add(format!(
                "proxy.redirect: '{other}' is neither 'auto', 'carry' nor 'replay'"
            ));
            false
        }
    };
    let settings = ProxySettings {
        max_lag: problems.limit("proxy.max-lag", &raw.max_lag),
        redirect_timeout: problems.duration("proxy.primary-redirect-timeout", &raw.primary_redirect_timeout),
        cookie_lasts: problems.duration("proxy.cookie-lasts", &raw.cookie_lasts),
        read_timeout: problems.limit("proxy.read-timeout", &raw.read_timeout),
        read_header_timeout: problems.limit("proxy.read-header-timeout", &raw.read_header_timeout),
        write_timeout: problems.limit("proxy.write-timeout", &raw.write_timeout),
        idle_timeout: problems.limit("proxy.idle-timeout", &raw.idle_timeout),
        address: address.unwrap_or_else(|()| SocketAddr::from(([0; 4], 0))),
        target: target.ok()?,
        database: database.ok()?,
        rules: Rules {
            passthrough: raw.passthrough,
            always_forward: raw.always_forward,
        },
        redirect: if replays {
            Redirect::Replay {
                header: replay_header.ok()?,
            }
        } else {
            Redirect::Carry {
                port: Some(raw.primary_port).filter(|port| *port != 0),
            }
        },
        cookie: raw.cookie_name,
        debug: raw.debug,
    };
    Some(settings)
}

/// Tells whether this node runs where an answer's header has a request brought to another machine.
pub(super) fn is_on_platform() -> bool {
    std::env::var_os(PLATFORM).is_some()
}
