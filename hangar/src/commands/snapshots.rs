//! `hangar volumes snapshots`.

use serde_json::{Value, json};

use super::{Context, items, text};
use crate::cli::volumes::{One, SnapshotDelete, SnapshotList, SnapshotVerify, Snapshots};
use crate::doctor::store::sealed_by_others;
use crate::failure::Failure;
use crate::rest::{Rest, escaped};
use crate::{size, table, when};

pub(super) async fn run(command: Snapshots, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Snapshots::Create(arguments) => create(arguments, context).await,
        Snapshots::List(arguments) => list(arguments, context).await,
        Snapshots::Verify(arguments) => verify(arguments, context).await,
        Snapshots::Delete(arguments) => delete(arguments, context).await,
    }
}

async fn create(arguments: One, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let path = format!(
        "/v1/apps/{}/volumes/{}/snapshots",
        escaped(&app),
        escaped(&arguments.volume)
    );
    let rest = context.rest()?;
    let body = json!({});
    let work = rest.post("create snapshot", &path, &body);
    let snapshot = context.output.during("taking the snapshot", work).await?;
    if arguments.json.json {
        return context.output.json(&snapshot);
    }
    context
        .output
        .line(format!("Scheduled to snapshot volume {}", arguments.volume))
}

async fn list(arguments: SnapshotList, context: &mut Context<'_>) -> Result<(), Failure> {
    let rest = context.rest()?;
    let path = match &arguments.volume {
        Some(volume) => {
            let app = context.app(&arguments.app)?;
            format!("/v1/apps/{}/volumes/{}/snapshots", escaped(&app), escaped(volume))
        }
        // All that the node and its bucket know: the app is a filter, not a place.
        None => match &arguments.app.app {
            Some(app) => format!("/hangar/v1/snapshots?app={}", escaped(app)),
            None => "/hangar/v1/snapshots".to_owned(),
        },
    };
    let snapshots = items(
        context
            .output
            .during("listing snapshots", rest.get("list snapshots", &path))
            .await?,
    );
    // A hint at most: a list that is there is shown even when this cannot be asked.
    if arguments.volume.is_none()
        && snapshots.is_empty()
        && let Ok(node) = rest.get("look at the node", "/hangar/v1/node").await
        && let Some(sealed) = sealed_by_others(&node["volumed"])
    {
        context.output.say(format!(
            "{sealed}: import it with `hangar key import FILE` to see them here"
        ))?;
    }
    if arguments.json.json {
        return context.output.json(&snapshots);
    }
    let heading = context.output.bold("Snapshots");
    context.output.line(heading)?;
    let table = table_of(&snapshots, arguments.volume.is_none(), context.clock.now());
    context.output.raw(table.as_bytes())?;
    for snapshot in &snapshots {
        if let Some(damage) = snapshot["damage"].as_str() {
            let id = text(snapshot, "id");
            context
                .output
                .line(format!("{id} cannot be restored: {damage}"))?;
        }
    }
    let stored: u64 = snapshots
        .iter()
        .filter_map(|snapshot| snapshot["size"].as_u64())
        .sum();
    context
        .output
        .line(format!("Total stored size: {}", size::bytes(stored)))
}

/// The status as people read it: one that does not restore is not just `created`.
fn status(snapshot: &Value) -> &str {
    match &snapshot["damage"] {
        Value::String(_) => "damaged",
        _ => text(snapshot, "status"),
    }
}

fn table_of(snapshots: &[Value], with_source: bool, now: jiff::Timestamp) -> String {
    let mut headings = vec![
        "id",
        "status",
        "stored size",
        "vol size",
        "created at",
        "retention days",
    ];
    if with_source {
        headings.extend(["volume", "app"]);
    }
    let rows: Vec<Vec<String>> = snapshots
        .iter()
        .map(|snapshot| {
            let number = |field: &str| snapshot[field].as_u64().map_or_else(String::new, size::bytes);
            let days = snapshot["retention_days"]
                .as_u64()
                .map_or_else(String::new, |days| days.to_string());
            let mut row = vec![
                text(snapshot, "id").to_owned(),
                status(snapshot).to_owned(),
                number("size"),
                number("volume_size"),
                when::ago_text(text(snapshot, "created_at"), now),
                days,
            ];
            if with_source {
                row.push(text(snapshot, "volume_id").to_owned());
                row.push(text(snapshot, "app").to_owned());
            }
            row
        })
        .collect();
    table::render(&headings, &rows)
}

/// The path of a snapshot, which is of `app` when that is given.
async fn path_of(rest: &Rest, snapshot: &str, app: Option<String>) -> Result<String, Failure> {
    let path = format!("/hangar/v1/snapshots/{}", escaped(snapshot));
    if let Some(app) = app {
        let found = rest.get("retrieve snapshot", &path).await?;
        if text(&found, "app") != app {
            return Err(Failure::OtherApp {
                what: format!("snapshot {snapshot}"),
                app: text(&found, "app").to_owned(),
            });
        }
    }
    Ok(path)
}

async fn delete(arguments: SnapshotDelete, context: &mut Context<'_>) -> Result<(), Failure> {
    let rest = context.rest()?;
    let path = path_of(&rest, &arguments.snapshot, arguments.app.app).await?;
    if !arguments.yes.yes {
        context
            .output
            .say("Warning: a deleted snapshot is gone for good.")?;
    }
    let question = format!("Delete snapshot {}?", arguments.snapshot);
    context.output.confirm(arguments.yes.yes, &question)?;
    let snapshot = rest.delete("delete snapshot", &path).await?;
    if arguments.json.json {
        return context.output.json(&snapshot);
    }
    context
        .output
        .line(format!("Snapshot {} is deleted", arguments.snapshot))
}

async fn verify(arguments: SnapshotVerify, context: &mut Context<'_>) -> Result<(), Failure> {
    let rest = context.rest()?;
    let path = path_of(&rest, &arguments.snapshot, arguments.app.app).await?;
    let path = format!("{path}/verify");
    let body = json!({});
    let work = rest.post("verify snapshot", &path, &body);
    let report = context.output.during("reading the snapshot back", work).await?;
    let errors = items(report["errors"].clone());
    if arguments.json.json {
        context.output.json(&report)?;
    } else if errors.is_empty() {
        let read = size::bytes(report["bytes"].as_u64().unwrap_or(0));
        context.output.line(format!(
            "Snapshot {} is whole: {} blocks, {read}",
            arguments.snapshot, report["blocks"]
        ))?;
    } else {
        errors
            .iter()
            .try_for_each(|error| context.output.line(error.as_str().unwrap_or_default()))?;
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Failure::Damaged {
            id: arguments.snapshot,
            count: errors.len(),
        })
    }
}
