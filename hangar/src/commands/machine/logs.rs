//! `hangar machine logs`.

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method};
use serde_json::Value;

use super::{Context, Machine, text};
use crate::cli::machine::Logs;
use crate::failure::Failure;
use crate::rest::Ask;

pub(super) async fn run(arguments: Logs, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.one.app, &arguments.one.machine)?;
    let path = format!(
        "/hangar{}",
        machine.path(&format!(
            "/logs?follow={}&tail={}",
            arguments.follow, arguments.tail
        ))
    );
    let ask = Ask {
        doing: "read logs",
        method: Method::GET,
        path: &path,
        body: None,
        headers: HeaderMap::new(),
    };
    let response = machine
        .rest
        .open(ask)
        .await
        .map_err(|failure| machine.named(failure))?;
    let mut stream = response.bytes_stream();
    let mut pending = Vec::new();
    loop {
        let broken = |source| Failure::Unreachable {
            doing: "read logs",
            endpoint: machine.rest.base().to_owned(),
            source,
        };
        let piece = stream.try_next().await.map_err(broken)?;
        let ended = piece.is_none();
        pending.extend_from_slice(&piece.unwrap_or_default());
        if ended && !pending.is_empty() {
            pending.push(b'\n');
        }
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if let Ok(entry) = serde_json::from_slice::<Value>(&line) {
                print(&entry, arguments.json.json, context)?;
            }
        }
        if ended {
            return Ok(());
        }
    }
}

fn print(entry: &Value, json: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if json {
        return context.output.line(entry.to_string());
    }
    let stream = match text(entry, "stream") {
        "stderr" => context.output.painted("stderr", "33"),
        other => other.to_owned(),
    };
    context.output.line(format!(
        "{} [{stream}] {}",
        text(entry, "timestamp"),
        text(entry, "message").trim_end()
    ))
}
