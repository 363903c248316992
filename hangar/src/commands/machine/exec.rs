//! `hangar machine exec`.

use std::io::Read as _;
use std::path::Path;

use serde_json::{Value, json};

use super::{Context, Machine, text, wait};
use crate::cli::machine::Exec;
use crate::failure::Failure;

pub(super) async fn run(arguments: Exec, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.app, &arguments.machine)?;
    let stdin = arguments.stdin.as_deref().map(input).transpose()?;
    let body = json!({"cmd": arguments.command, "timeout": arguments.timeout, "stdin": stdin});
    let run = async || {
        let work = machine.post("execute command", "/exec", &body);
        context.output.during("running", work).await
    };
    let answer = match run().await {
        // On its way up it is not refused but waited for.
        Err(refused @ Failure::Refused { status: 412, .. }) => {
            if !is_coming_up(&machine.get().await?) {
                return Err(refused);
            }
            let value = wait::until_up(&machine, wait::START_WITHIN, &context.output).await?;
            wait::refuse_failed(&value)?;
            run().await?
        }
        other => other?,
    };
    let code = answer["exit_code"].as_i64().unwrap_or(0);
    if arguments.json.json {
        context.output.json(&answer)?;
    } else {
        context.output.raw(text(&answer, "stdout").as_bytes())?;
        context.output.say_raw(text(&answer, "stderr").as_bytes())?;
    }
    if code == 0 {
        Ok(())
    } else {
        Err(Failure::GuestCommand { code })
    }
}

/// Tells whether a command that was refused now will be taken when the machine is up.
fn is_coming_up(machine: &Value) -> bool {
    ["creating", "starting", "restarting", "replacing"].contains(&text(machine, "state"))
}

fn input(path: &Path) -> Result<String, Failure> {
    let failed = |source| Failure::File {
        path: path.to_owned(),
        source,
    };
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map_err(failed)?;
        return Ok(text);
    }
    std::fs::read_to_string(path).map_err(failed)
}
