//! `hangar volumes attach` and `detach`: volumes on this very host, so the daemon's own socket is asked, which only its user can.

use std::path::Path;

use daemon::unix_http::{CallError, Client};
use serde_json::{Value, json};

use super::Context;
use crate::cli::volumes::{Attach, Detach};
use crate::failure::Failure;
use crate::node::Layout;
use crate::rest::escaped;

pub(super) async fn attach(arguments: Attach, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = client(context);
    let host = std::path::absolute(&arguments.host).unwrap_or(arguments.host);
    check_outside_node(&host, &context.environment.data_directory())?;
    let body = json!({ "host_path": host });
    let path = path(&arguments.volume);
    let mounted = client.put(&path, &body);
    let volume: Value = context
        .output
        .during("mounting the volume", mounted)
        .await
        .map_err(|error| failure("attach volume", &client, error))?;
    if arguments.json.json {
        return context.output.json(&volume);
    }
    let place = volume["host_path"].as_str().unwrap_or_default();
    let generation = &volume["generation"];
    context.output.line(format!(
        "Volume {} is mounted on {place}, generation {generation}",
        arguments.volume
    ))
}

pub(super) async fn detach(arguments: Detach, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = client(context);
    let volume: Value = client
        .delete(&path(&arguments.volume))
        .await
        .map_err(|error| failure("detach volume", &client, error))?;
    if arguments.json.json {
        return context.output.json(&volume);
    }
    context
        .output
        .line(format!("Volume {} is not mounted any more", arguments.volume))
}

/// What the node keeps is the node's alone: a mount in there would hide it, and be lost with it.
fn check_outside_node(host: &Path, data: &Path) -> Result<(), Failure> {
    let data = std::fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
    // The directory itself is made by the mount; what is there already may be a link.
    let real = host
        .ancestors()
        .find_map(|part| Some((std::fs::canonicalize(part).ok()?, host.strip_prefix(part).ok()?)));
    let real = real.map_or_else(|| host.to_owned(), |(there, rest)| there.join(rest));
    if !real.starts_with(&data) {
        return Ok(());
    }
    Err(Failure::BadValue {
        what: "host directory",
        given: host.display().to_string(),
        expected: "choose a directory outside of the node's own",
    })
}

fn client(context: &Context<'_>) -> Client {
    Client::new(Layout::new(context.environment.data_directory()).socket("volumed"))
}

fn path(volume: &str) -> String {
    format!("/v1/volumes/{}/mount", escaped(volume))
}

fn failure(doing: &'static str, client: &Client, error: CallError) -> Failure {
    match error {
        CallError::Status { status, error, .. } => Failure::Refused {
            doing,
            status,
            error,
            request_id: None,
        },
        error => Failure::Daemon {
            doing,
            socket: Path::new(client.socket()).to_owned(),
            source: error,
        },
    }
}

#[cfg(test)]
mod tests;
