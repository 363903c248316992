//! How machines look.

use serde_json::Value;

use super::text;
use crate::{guest_size, table, when};

/// The table of `machine list`.
pub(super) fn list(machines: &[Value], now: jiff::Timestamp) -> String {
    let rows: Vec<Vec<String>> = machines
        .iter()
        .map(|machine| {
            let config = &machine["config"];
            vec![
                text(machine, "id").to_owned(),
                text(machine, "name").to_owned(),
                text(machine, "state").to_owned(),
                checks(machine),
                text(machine, "region").to_owned(),
                image(machine),
                text(machine, "private_ip").to_owned(),
                text(&config["mounts"][0], "volume").to_owned(),
                when::ago_text(text(machine, "created_at"), now),
                when::ago_text(text(machine, "updated_at"), now),
                text(&config["metadata"], "fly_process_group").to_owned(),
                guest_size::describe(&config["guest"]),
            ]
        })
        .collect();
    let headings = [
        "id",
        "name",
        "state",
        "checks",
        "region",
        "image",
        "ip address",
        "volume",
        "created",
        "last updated",
        "process group",
        "size",
    ];
    table::render(&headings, &rows)
}

fn checks(machine: &Value) -> String {
    let checks = machine["checks"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    if checks.is_empty() {
        return String::new();
    }
    let passing = checks.iter().filter(|check| check["status"] == "passing").count();
    format!("{passing}/{}", checks.len())
}

/// `repository:tag` of the image that runs; what was asked for where that is not known.
pub(super) fn image(machine: &Value) -> String {
    let (repository, tag) = (
        text(&machine["image_ref"], "repository"),
        text(&machine["image_ref"], "tag"),
    );
    match (repository, tag) {
        ("", _) => text(&machine["config"], "image").to_owned(),
        (repository, "") => repository.to_owned(),
        (repository, tag) => format!("{repository}:{tag}"),
    }
}

/// The lines above the tables of `machine status`.
pub(super) fn head(machine: &Value) -> String {
    let host = match text(machine, "host_status") {
        "" => "ok",
        status => status,
    };
    format!(
        "Machine ID: {}\nInstance ID: {}\nState: {}\nHostStatus: {host}\n",
        text(machine, "id"),
        text(machine, "instance_id"),
        text(machine, "state"),
    )
}

/// The machine itself.
pub(super) fn vm(machine: &Value, app: &str) -> String {
    let config = &machine["config"];
    let guest = &config["guest"];
    let line = |label: &str, value: String| format!("  {label:<14} = {value}\n");
    let mut lines = vec![
        line("ID", text(machine, "id").to_owned()),
        line("Instance ID", text(machine, "instance_id").to_owned()),
        line("State", text(machine, "state").to_owned()),
        line("Image", image(machine)),
        line("Name", text(machine, "name").to_owned()),
        line("App", app.to_owned()),
        line("Private IP", text(machine, "private_ip").to_owned()),
        line("Region", text(machine, "region").to_owned()),
        line(
            "CPU Kind",
            guest["cpu_kind"].as_str().unwrap_or("shared").to_owned(),
        ),
        line("vCPUs", guest["cpus"].as_u64().unwrap_or(1).to_string()),
        line("Memory", guest["memory_mb"].as_u64().unwrap_or(256).to_string()),
        line("Created", text(machine, "created_at").to_owned()),
        line("Updated", text(machine, "updated_at").to_owned()),
    ];
    for mount in config["mounts"].as_array().into_iter().flatten() {
        lines.push(line(
            "Volume",
            format!("{} at {}", text(mount, "volume"), text(mount, "path")),
        ));
    }
    for address in services(machine) {
        lines.push(line("Service", address));
    }
    for check in machine["checks"].as_array().into_iter().flatten() {
        let text = format!(
            "{} {}: {}",
            text(check, "name"),
            text(check, "status"),
            text(check, "output").trim()
        );
        lines.push(line("Check", text));
    }
    lines.concat()
}

/// Where on this host the machine's services are reached while it runs: each machine has a loopback address of its own, so
/// that any number of them can serve the same port.
pub(super) fn services(machine: &Value) -> Vec<String> {
    let forwards = machine["hangar"]["forwards"].as_array().into_iter().flatten();
    let shown = forwards.map(|forward| {
        format!(
            "{}:{} to port {} ({})",
            text(forward, "host_address"),
            forward["host_port"].as_u64().unwrap_or(0),
            forward["guest_port"].as_u64().unwrap_or(0),
            text(forward, "protocol"),
        )
    });
    shown.collect()
}

/// The table of events, newest first.
pub(super) fn events(machine: &Value, now: jiff::Timestamp) -> String {
    let events = machine["events"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let rows: Vec<Vec<String>> = events
        .iter()
        .map(|event| {
            let at = event["timestamp"]
                .as_i64()
                .and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
            vec![
                text(event, "status").to_owned(),
                text(event, "type").to_owned(),
                text(event, "source").to_owned(),
                at.map(|at| when::ago(at, now)).unwrap_or_default(),
                info(event),
            ]
        })
        .collect();
    table::render(&["state", "event", "source", "timestamp", "info"], &rows)
}

fn info(event: &Value) -> String {
    let request = &event["request"];
    let exit = [&request["exit_event"], &request["MonitorEvent"]["exit_event"]]
        .into_iter()
        .find(|exit| exit.is_object());
    let Some(exit) = exit else {
        let words = ["message", "error", "reason"].map(|name| text(request, name));
        return words
            .into_iter()
            .find(|word| !word.is_empty())
            .unwrap_or("")
            .to_owned();
    };
    let mut words = vec![format!("exit_code={}", exit["exit_code"].as_i64().unwrap_or(-1))];
    for flag in ["oom_killed", "requested_stop", "restarting"] {
        if let Some(value) = exit[flag].as_bool() {
            words.push(format!("{flag}={value}"));
        }
    }
    if let Some(error) = exit["error"].as_str() {
        words.push(format!("error={error}"));
    }
    words.join(",")
}

/// Why a machine's newest run never began, or ended without its workload's doing; `None` when neither is so.
pub(super) fn why_not_running(machine: &Value) -> Option<String> {
    let mut events = machine["events"].as_array()?.iter();
    let exit = &events.find(|event| event["type"] == "exit")?["request"]["exit_event"];
    match exit["cause"].as_str()? {
        "exited" | "killed" => None,
        _ => exit["error"].as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests;
