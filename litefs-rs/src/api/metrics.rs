//! `GET /metrics`, under the names of LiteFS.

use std::fmt::Write as _;

use http::{HeaderValue, Response, header::CONTENT_TYPE};

use super::full;
use crate::{
    db::Role,
    http_client::Body,
    replication::{status::Status, streams::Streams},
    store::Store,
};

const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Shows them.
pub(super) fn show(store: &Store, status: &Status, streams: &Streams) -> Response<Body> {
    let slots = store.all();
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: Vec<(String, String)>| {
        // Writing into a string cannot fail.
        let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in values {
            let _infallible = writeln!(text, "{name}{labels} {value}");
        }
    };
    let one = |value: String| vec![(String::new(), value)];
    let primary = store.role() == Role::Primary;
    gauge(
        "litefs_db_count",
        "Number of databases.",
        one(slots.len().to_string()),
    );
    gauge(
        "litefs_is_primary",
        "Primary status of the node.",
        one(u8::from(primary).to_string()),
    );
    gauge(
        "litefs_http_stream_count",
        "Number of replicas that are connected.",
        one(streams.count().to_string()),
    );
    let lag = status.lag_ms().map_or_else(|| "+Inf".to_owned(), seconds);
    gauge(
        "litefs_lag_seconds",
        "How far behind the primary the node is.",
        one(lag),
    );
    let labels = |name: &crate::name::DatabaseName| format!("{{db=\"{}\"}}", escaped(name.as_str()));
    let txids = slots
        .iter()
        .map(|slot| (labels(slot.name()), slot.noted().pos.txid.get().to_string()));
    gauge("litefs_db_txid", "Current transaction ID.", txids.collect());
    let files = slots.iter().map(|slot| {
        let entries = store
            .node()
            .disk
            .list(&slot.directory().join("ltx"))
            .unwrap_or_default();
        let kept = entries
            .iter()
            .filter(|entry| entry.name.parse::<ltx::FileName>().is_ok());
        let (count, bytes) = kept.fold((0_u64, 0), |(count, bytes), entry| (count + 1, bytes + entry.len));
        (labels(slot.name()), count, bytes)
    });
    let files: Vec<_> = files.collect();
    let counts = files
        .iter()
        .map(|(labels, count, _)| (labels.clone(), count.to_string()));
    gauge(
        "litefs_db_ltx_count",
        "Number of LTX files on disk.",
        counts.collect(),
    );
    let bytes = files
        .iter()
        .map(|(labels, _, bytes)| (labels.clone(), bytes.to_string()));
    gauge(
        "litefs_db_ltx_bytes",
        "Bytes of LTX files on disk.",
        bytes.collect(),
    );
    let mut response = Response::new(full(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(FORMAT));
    response
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

fn escaped(label: &str) -> String {
    label
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
