//! `hangar images`.

use futures_util::TryStreamExt as _;
use http::{HeaderMap, Method};
use serde_json::{Value, json};

use super::{Context, items, text};
use crate::cli::images::{Command, Import, List, Rm};
use crate::failure::Failure;
use crate::rest::{Ask, escaped};
use crate::{size, table, when};

pub(super) async fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Import(arguments) => import(arguments, context).await,
        Command::List(arguments) => list(arguments, context).await,
        Command::Rm(arguments) => remove(arguments, context).await,
    }
}

async fn import(arguments: Import, context: &mut Context<'_>) -> Result<(), Failure> {
    let local = std::path::Path::new(&arguments.source);
    let body = if local.exists() {
        let path = std::path::absolute(local).map_err(|source| Failure::File {
            path: local.to_owned(),
            source,
        })?;
        json!({"path": path, "name": arguments.name})
    } else if looks_like_path(&arguments.source) {
        return Err(Failure::File {
            path: local.to_owned(),
            source: rustix::io::Errno::NOENT.into(),
        });
    } else if let Some(given) = arguments.name {
        let expected = "an image of a registry keeps its reference; --name is for files";
        return Err(Failure::BadValue {
            what: "name",
            given,
            expected,
        });
    } else {
        json!({"reference": arguments.source})
    };
    let ask = Ask {
        doing: "import image",
        method: Method::POST,
        path: "/hangar/v1/images",
        body: Some(&body),
        headers: HeaderMap::new(),
    };
    let rest = context.rest()?;
    let response = rest.open(ask).await?;
    let last = follow(&arguments.source, response, context).await?;
    if arguments.json.json {
        return context.output.json(&last);
    }
    let images = items(last["images"].clone());
    images.iter().try_for_each(|image| {
        context
            .output
            .line(format!("Imported {} {}", names(image), text(image, "digest")))
    })
}

/// Tells a path from an image's reference, which never begins like one and never ends like an archive.
fn looks_like_path(source: &str) -> bool {
    source.starts_with(['.', '/', '~'])
        || [".tar", ".tar.gz", ".tgz"]
            .iter()
            .any(|end| source.ends_with(end))
}

/// Shows the progress lines and returns the last one, which holds the images.
async fn follow(source: &str, response: reqwest::Response, context: &Context<'_>) -> Result<Value, Failure> {
    let broken = |error: String| Failure::Import {
        source_name: source.to_owned(),
        error,
    };
    let bar = context.output.bytes_bar(0, "importing");
    let mut pending = Vec::new();
    let mut stream = response.bytes_stream();
    loop {
        let piece = stream
            .try_next()
            .await
            .map_err(|error| broken(error.to_string()))?;
        let ended = piece.is_none();
        pending.extend_from_slice(&piece.unwrap_or_default());
        while let Some(line) = next_line(&mut pending, ended) {
            let Ok(event) = serde_json::from_slice::<Value>(&line) else {
                continue;
            };
            match text(&event, "step") {
                "result" => {
                    bar.finish_and_clear();
                    return Ok(event);
                }
                "error" => {
                    bar.finish_and_clear();
                    let status = event["http_status"]
                        .as_u64()
                        .and_then(|status| u16::try_from(status).ok());
                    let error = text(&event, "error").to_owned();
                    let status = status.unwrap_or(500);
                    return Err(Failure::Refused {
                        doing: "import image",
                        status,
                        error,
                        request_id: None,
                    });
                }
                step => show(&bar, step, &event),
            }
        }
        if ended {
            bar.finish_and_clear();
            return Err(broken("the node ended it without a result".to_owned()));
        }
    }
}

fn show(bar: &indicatif::ProgressBar, step: &str, event: &Value) {
    let part = match (event["layer"].as_u64(), event["layers"].as_u64()) {
        (Some(layer), Some(layers)) => format!(" layer {}/{layers}", layer + 1),
        _ => String::new(),
    };
    bar.set_message(format!("{step}{part}"));
    if let Some(total) = event["total_bytes"].as_u64() {
        bar.set_length(total);
    }
    if let Some(done) = event["bytes"].as_u64() {
        bar.set_position(done);
    }
}

/// Takes the next whole line out of `pending`; at the end, what is left counts as one.
fn next_line(pending: &mut Vec<u8>, ended: bool) -> Option<Vec<u8>> {
    if let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
        return Some(pending.drain(..=end).collect());
    }
    (ended && !pending.is_empty()).then(|| std::mem::take(pending))
}

fn names(image: &Value) -> String {
    let names: Vec<&str> = image["names"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    names.join(", ")
}

async fn list(arguments: List, context: &mut Context<'_>) -> Result<(), Failure> {
    let images = items(context.rest()?.get("list images", "/hangar/v1/images").await?);
    if arguments.json.json {
        return context.output.json(&images);
    }
    let now = context.clock.now();
    let rows: Vec<Vec<String>> = images.iter().map(|image| row(image, now)).collect();
    let table = table::render(&["name", "digest", "size", "created at"], &rows);
    context.output.raw(table.as_bytes())
}

fn row(image: &Value, now: jiff::Timestamp) -> Vec<String> {
    let digest: String = text(image, "digest").chars().take("sha256:".len() + 12).collect();
    let size = size::bytes(image["size_bytes"].as_u64().unwrap_or(0));
    vec![
        names(image),
        digest,
        size,
        when::ago_text(text(image, "created"), now),
    ]
}

async fn remove(arguments: Rm, context: &mut Context<'_>) -> Result<(), Failure> {
    let rest = context.rest()?;
    for image in &arguments.images {
        rest.delete("remove image", &format!("/hangar/v1/images/{}", escaped(image)))
            .await?;
        context.output.line(format!("Removed {image}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
