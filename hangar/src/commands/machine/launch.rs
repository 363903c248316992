//! `hangar machine run` and `create`.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::wait::{self, START_WITHIN};
use super::{Context, Machine, config, items, render, text};
use crate::cli::machine::Run;
use crate::failure::Failure;
use crate::rest::{Rest, escaped};

/// Whether the new machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// `run`.
    Now,
    /// `create`.
    Later,
}

pub(super) async fn run(arguments: Run, context: &mut Context<'_>, start: Start) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let rest = context.rest()?;
    let mut config = Map::new();
    config::apply(&arguments.settings, &mut config)?;
    config.insert("image".to_owned(), json!(arguments.image));
    if !arguments.command.is_empty() {
        let init = config.entry("init").or_insert_with(|| json!({}));
        init["cmd"] = json!(arguments.command);
    }
    if arguments.rm {
        config.insert("auto_destroy".to_owned(), json!(true));
    }
    if let Some(volume) = &arguments.volume {
        let message = format!("waiting for volume {volume}");
        let mounted = context
            .output
            .during(&message, mount(&rest, &app, volume))
            .await?;
        config.insert("mounts".to_owned(), json!([mounted]));
    }
    let body = json!({
        "config": config,
        "region": arguments.region,
        "name": arguments.name,
        "skip_launch": start == Start::Later,
    });
    let path = format!("/v1/apps/{}/machines", escaped(&app));
    let work = rest.post("create machine", &path, &body);
    let made = context
        .output
        .during("preparing the image and the machine", work)
        .await?;
    let machine = Machine {
        rest,
        app,
        id: text(&made, "id").to_owned(),
    };
    if start == Start::Later {
        return created(&machine, &made, arguments.json.json, context);
    }
    if !arguments.json.json {
        let sentence = format!(
            "Success! A Machine has been successfully launched in app {}",
            machine.app
        );
        context.output.line(sentence)?;
        context.output.line(facts(&made))?;
    }
    if arguments.detach {
        return if arguments.json.json {
            context.output.json(&made)
        } else {
            Ok(())
        };
    }
    started(&machine, arguments.json.json, context).await
}

/// Waits for `started`; a machine that was to be destroyed at its exit may already be gone, and that is no failure.
async fn started(machine: &Machine, json: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if !json {
        context.output.say(" Attempting to start machine...")?;
    }
    let value = wait::until_up(machine, START_WITHIN, &context.output).await?;
    if json {
        context.output.json(&value)?;
    }
    wait::refuse_failed(&value)?;
    match text(&value, "state") {
        "started" if !json => {
            context
                .output
                .line("Machine started, you can connect via the following private ip")?;
            context.output.line(format!("  {}", text(&value, "private_ip")))?;
            for address in render::services(&value) {
                context.output.line(format!("  from this host: {address}"))?;
            }
            Ok(())
        }
        "started" => Ok(()),
        // It ran to its end before we looked: its exit code is in its events.
        state => context
            .output
            .say(format!("Machine {} is {state} already", machine.id)),
    }
}

fn created(machine: &Machine, made: &Value, json: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    if json {
        return context.output.json(made);
    }
    context.output.line(format!(
        "Success! A Machine has been successfully created in app {}",
        machine.app
    ))?;
    context.output.line(facts(made))
}

fn facts(machine: &Value) -> String {
    format!(
        " Machine ID: {}\n Instance ID: {}\n State: {}\n",
        text(machine, "id"),
        text(machine, "instance_id"),
        text(machine, "state")
    )
}

/// Reads `VOLUME:/path`, the whole grammar: what else could follow has no meaning here.
fn source_and_path(given: &str) -> Result<(&str, &str), Failure> {
    given
        .split_once(':')
        .filter(|(source, path)| !source.is_empty() && path.starts_with('/') && !path.contains(':'))
        .ok_or_else(|| Failure::BadValue {
            what: "volume",
            given: given.to_owned(),
            expected: "use VOLUME:/path, a name or an id and an absolute directory",
        })
}

/// Turns `data:/data` or `vol_x:/data` into a mount; a name takes a free volume of that name. A volume that is still
/// being made is waited for.
async fn mount(rest: &Rest, app: &str, given: &str) -> Result<Value, Failure> {
    let (source, path) = source_and_path(given)?;
    let list = format!("/v1/apps/{}/volumes", escaped(app));
    let end = tokio::time::Instant::now() + VOLUME_WITHIN;
    let volume = loop {
        let volumes = items(rest.get("list volumes", &list).await?);
        match choose(&volumes, source) {
            Choice::Take(volume) => break volume,
            Choice::Wait if tokio::time::Instant::now() < end => tokio::time::sleep(LOOK).await,
            Choice::Wait | Choice::None => {
                return Err(Failure::NoFreeVolume {
                    name: source.to_owned(),
                });
            }
        }
    };
    Ok(json!({
        "volume": volume["id"],
        "path": path,
        "name": volume["name"],
        "size_gb": volume["size_gb"],
        "encrypted": volume["encrypted"],
    }))
}

/// How long a volume that is still being filled is waited for.
const VOLUME_WITHIN: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(300);

/// What a list of volumes has for a mount.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    Take(Value),
    Wait,
    None,
}

fn choose(volumes: &[Value], source: &str) -> Choice {
    let in_making = |volume: &Value| ["creating", "restoring", "recovering"].contains(&text(volume, "state"));
    if source.starts_with("vol_") {
        // An id that is not in the list is sent as it is: the node says what is wrong with it.
        let named = volumes.iter().find(|volume| text(volume, "id") == source);
        return match named {
            Some(volume) if in_making(volume) => Choice::Wait,
            Some(volume) => Choice::Take(volume.clone()),
            None => Choice::Take(json!({"id": source})),
        };
    }
    let mut candidates = volumes
        .iter()
        .filter(|volume| text(volume, "name") == source && volume["attached_machine_id"].is_null());
    let usable = |volume: &&Value| ["created", "hydrating"].contains(&text(volume, "state"));
    match candidates.clone().find(usable) {
        Some(volume) => Choice::Take(volume.clone()),
        None if candidates.any(in_making) => Choice::Wait,
        None => Choice::None,
    }
}

#[cfg(test)]
mod tests;
