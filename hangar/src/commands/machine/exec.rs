//! `hangar machine exec`.

use std::io::Read as _;
use std::path::Path;

use serde_json::json;

use super::{Context, Machine, text};
use crate::cli::machine::Exec;
use crate::failure::Failure;

pub(super) async fn run(arguments: Exec, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.app, &arguments.machine)?;
    let stdin = arguments.stdin.as_deref().map(input).transpose()?;
    let body = json!({"cmd": arguments.command, "timeout": arguments.timeout, "stdin": stdin});
    let work = machine.post("execute command", "/exec", &body);
    let answer = context.output.during("running", work).await?;
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
