//! PURE. Questions and answers of etcd's JSON gateway. Bytes are in base64; numbers of 64 bits are strings, and left out when 0.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};

/// The revision of a key that is not there.
pub(super) const ABSENT: &str = "0";

/// What is under a key.
#[derive(Debug, Deserialize)]
pub(super) struct KeyValue {
    #[serde(default)]
    value: String,
    /// The change that wrote it.
    #[serde(default)]
    pub(super) mod_revision: String,
}

impl KeyValue {
    /// Returns the value; what is no base64 is no record either.
    pub(super) fn bytes(&self) -> Vec<u8> {
        BASE64_STANDARD.decode(&self.value).unwrap_or_default()
    }
}

/// The answer to [`range`].
#[derive(Debug, Default, Deserialize)]
pub(super) struct Found {
    #[serde(default)]
    pub(super) kvs: Vec<KeyValue>,
}

/// The answer to [`swap`].
#[derive(Debug, Deserialize)]
pub(super) struct Swapped {
    #[serde(default)]
    pub(super) succeeded: bool,
    #[serde(default)]
    responses: Vec<Response>,
}

#[derive(Debug, Deserialize)]
struct Response {
    #[serde(default)]
    response_range: Option<Found>,
}

impl Swapped {
    /// Returns what is there instead of what was to be replaced.
    pub(super) fn instead(self) -> Option<KeyValue> {
        let found = self.responses.into_iter().next()?.response_range?;
        found.kvs.into_iter().next()
    }
}

/// The answer to [`authenticate`].
#[derive(Debug, Deserialize)]
pub(super) struct Authenticated {
    pub(super) token: String,
}

/// The answer when there is none.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Refusal {
    #[serde(default)]
    pub(super) message: String,
    /// How older gateways call it.
    #[serde(default)]
    pub(super) error: String,
}

/// Asks what is under a key, as a majority of the members has it.
pub(super) fn range(key: &str) -> Value {
    json!({ "key": BASE64_STANDARD.encode(key) })
}

/// Writes a value if the key was last changed in that revision, and says what is there otherwise.
pub(super) fn swap(key: &str, revision: &str, value: &[u8]) -> Value {
    let key = BASE64_STANDARD.encode(key);
    json!({
        "compare": [{ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision }],
        "success": [{ "request_put": { "key": key, "value": BASE64_STANDARD.encode(value) } }],
        "failure": [{ "request_range": { "key": key } }],
    })
}

/// Logs in.
pub(super) fn authenticate(username: &str, password: &str) -> Value {
    json!({ "name": username, "password": password })
}
