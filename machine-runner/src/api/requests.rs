//! Bodies and queries of requests, and how leniently they are read.

use std::collections::BTreeMap;

use daemon::ApiError;
use serde::Deserialize;
use serde_json::Value;

use crate::go_duration;
use crate::lifecycle::State;
use crate::machine_config::signal_number;

/// What only this project's own API front sends along; never stored with the configuration.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Hangar {
    pub(super) org: Option<String>,
    pub(super) network: Option<String>,
    pub(super) secrets: Option<BTreeMap<String, String>>,
}

/// Body of create and update.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct MachineBody {
    #[serde(default)]
    pub(super) config: Value,
    pub(super) region: Option<String>,
    pub(super) name: Option<String>,
    #[serde(default)]
    pub(super) skip_launch: bool,
    pub(super) lease_ttl: Option<i64>,
    pub(super) current_version: Option<String>,
    pub(super) hangar: Option<Hangar>,
}

impl MachineBody {
    /// Refuses a body whose `config` is missing, in one sentence.
    pub(super) fn checked(self) -> Result<Self, ApiError> {
        if self.config.is_null() {
            return Err(ApiError::unprocessable(
                "config is required: send {\"config\": {\"image\": \"…\"}}",
            ));
        }
        Ok(self)
    }
}

/// Body of stop.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct StopBody {
    pub(super) signal: Option<Value>,
    pub(super) timeout: Option<Value>,
}

/// Body of signal.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct SignalBody {
    pub(super) signal: Option<Value>,
}

/// Reads a signal: a number 1 to 64, its text, or a name with or without `SIG`.
pub(super) fn signal(value: &Value) -> Result<Option<i32>, ApiError> {
    let number = match value {
        Value::Null => return Ok(None),
        Value::String(text) if text.is_empty() => return Ok(None),
        Value::String(text) => signal_number(text).or_else(|| text.parse().ok()),
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    match number {
        Some(number) if (1..=64).contains(&number) => Ok(Some(number)),
        _ => Err(ApiError::bad_request(format!(
            "signal must be a name like SIGTERM or a number 1 to 64, got {value}"
        ))),
    }
}

/// Longest stop timeout of a request, in milliseconds.
const STOP_MS_MAX: u64 = 300_000;

/// Reads a stop timeout: text, nanoseconds, or (in a query) seconds; zero means "as configured".
pub(super) fn timeout_ms(
    duration: Option<std::time::Duration>,
    given: &str,
) -> Result<Option<u64>, ApiError> {
    let Some(duration) = duration else {
        return Err(ApiError::bad_request(format!(
            "timeout must be a duration like \"10s\", got {given}"
        )));
    };
    match u64::try_from(duration.as_millis()).unwrap_or(u64::MAX) {
        0 => Ok(None),
        ms if ms <= STOP_MS_MAX => Ok(Some(ms)),
        _ => Err(ApiError::bad_request(format!(
            "timeout must be at most 300 seconds, got {given}"
        ))),
    }
}

impl StopBody {
    pub(super) fn args(&self) -> Result<crate::runner::StopArgs, ApiError> {
        let signal = self.signal.as_ref().map_or(Ok(None), signal)?;
        let timeout_ms = match &self.timeout {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) if text.is_empty() => None,
            Some(value) => timeout_ms(go_duration::from_json(value), &value.to_string())?,
        };
        Ok(crate::runner::StopArgs {
            signal,
            timeout_ms,
            kill: false,
        })
    }
}

/// A query as pairs; several of one name are allowed.
#[derive(Clone, Debug, Default)]
pub(super) struct Pairs(pub(super) Vec<(String, String)>);

impl Pairs {
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name)
            .is_some_and(|value| matches!(value, "" | "1" | "t" | "true" | "True" | "TRUE"))
    }

    /// All values of a name, comma lists taken apart.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        let values = self.0.iter().filter(|(key, _)| key == name);
        let parts = values.flat_map(|(_, value)| value.split(',')).map(str::trim);
        parts.filter(|part| !part.is_empty()).map(str::to_owned).collect()
    }
}

/// Query of the list call.
#[derive(Clone, Debug, Default)]
pub(super) struct ListQuery {
    pub(super) include_deleted: bool,
    pub(super) include_leases: bool,
    pub(super) summary: bool,
    pub(super) region: Option<String>,
    pub(super) states: Vec<String>,
    pub(super) metadata: Vec<(String, String)>,
}

impl ListQuery {
    pub(super) fn read(pairs: &Pairs) -> Result<Self, ApiError> {
        let states = pairs.list("state");
        if let Some(unknown) = states.iter().find(|state| State::parse(state).is_none()) {
            return Err(ApiError::bad_request(format!("unknown state {unknown:?}")));
        }
        let metadata = pairs.0.iter().filter_map(|(key, value)| {
            key.strip_prefix("metadata.")
                .map(|key| (key.to_owned(), value.clone()))
        });
        Ok(Self {
            include_deleted: pairs.flag("include_deleted"),
            include_leases: pairs.flag("include_leases"),
            summary: pairs.flag("summary"),
            region: pairs
                .get("region")
                .filter(|region| !region.is_empty())
                .map(str::to_owned),
            states,
            metadata: metadata.collect(),
        })
    }
}

#[cfg(test)]
mod tests;
