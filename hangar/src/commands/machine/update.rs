//! `hangar machine update`: reads the configuration, changes it, writes it back under a lease.

use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::wait::{self, START_WITHIN};
use super::{Context, Machine, config, text};
use crate::cli::machine::Update;
use crate::failure::Failure;
use crate::rest::Ask;

const NONCE: &str = "fly-machine-lease-nonce";

pub(super) async fn run(arguments: Update, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.one.app, &arguments.one.machine)?;
    context.output.confirm(
        arguments.yes.yes,
        &format!("Update machine {}? It restarts.", machine.id),
    )?;
    // The lease keeps others from changing what is read here until it is written back.
    let lease = machine.post("obtain lease", "/lease?ttl=120", &json!({})).await?;
    let nonce = text(&lease["data"], NONCE_FIELD).to_owned();
    let updated = change(&machine, &arguments, &nonce, context).await;
    let released = machine
        .rest
        .send(leased(
            Method::DELETE,
            "release lease",
            &machine.path("/lease"),
            None,
            &nonce,
        ))
        .await;
    let updated = updated?;
    released?;
    if arguments.json.json {
        return context.output.json(&updated);
    }
    context
        .output
        .line(format!("Machine {} updated successfully!", machine.id))
}

const NONCE_FIELD: &str = "nonce";

async fn change(
    machine: &Machine,
    arguments: &Update,
    nonce: &str,
    context: &mut Context<'_>,
) -> Result<Value, Failure> {
    let current = machine.get().await?;
    let mut wanted = current["config"].as_object().cloned().unwrap_or_default();
    config::apply(&arguments.settings, &mut wanted)?;
    if let Some(image) = &arguments.image {
        wanted.insert("image".to_owned(), json!(image));
    }
    if let Some(command) = &arguments.command {
        let init = wanted.entry("init").or_insert(Value::Null);
        if !init.is_object() {
            *init = json!({});
        }
        init["cmd"] = json!(config::words(command)?);
    }
    context.output.say(format!("Updating machine {}", machine.id))?;
    let body = json!({"config": wanted, "current_version": current["instance_id"]});
    let path = machine.path("");
    let work = machine
        .rest
        .send(leased(Method::POST, "update machine", &path, Some(&body), nonce));
    context.output.during("updating", work).await?;
    wait::until(machine, "settled,restarting", START_WITHIN, &context.output).await?;
    let updated = machine.get().await?;
    match text(&updated, "state") {
        "failed" => wait::refuse_failed(&updated)?,
        "restarting" => {
            wait::refuse_failed(&updated)?;
            wait::until(machine, "settled", START_WITHIN, &context.output).await?;
            return machine.get().await;
        }
        _ => {}
    }
    Ok(updated)
}

fn leased<'a>(
    method: Method,
    doing: &'static str,
    path: &'a str,
    body: Option<&'a Value>,
    nonce: &str,
) -> Ask<'a> {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_str(nonce) {
        headers.insert(NONCE, value);
    }
    Ask {
        doing,
        method,
        path,
        body,
        headers,
    }
}
