//! `hangar machine`.

use serde_json::{Value, json};

use super::{Context, items, naming, text};
use crate::cli::AppArg;
use crate::cli::machine::{Command, Destroy, List, Many, Restart, Status, Stop, Suspend};
use crate::failure::Failure;
use crate::rest::{Rest, escaped};
use crate::table;

mod config;
mod exec;
mod launch;
mod logs;
mod render;
mod update;
mod wait;

pub(super) async fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Run(arguments) => launch::run(*arguments, context, launch::Start::Now).await,
        Command::Create(arguments) => launch::run(*arguments, context, launch::Start::Later).await,
        Command::List(arguments) => list(arguments, context).await,
        Command::Status(arguments) => status(arguments, context).await,
        Command::Start(arguments) => start(arguments, context).await,
        Command::Stop(arguments) => stop(arguments, context).await,
        Command::Suspend(arguments) => suspend(arguments, context).await,
        Command::Restart(arguments) => restart(arguments, context).await,
        Command::Update(arguments) => update::run(*arguments, context).await,
        Command::Exec(arguments) => exec::run(arguments, context).await,
        Command::Logs(arguments) => logs::run(arguments, context).await,
        Command::Kill(arguments) => {
            let machine = Machine::new(context, &arguments.app, &arguments.machine)?;
            machine
                .post("kill machine", "/signal", &json!({"signal": "SIGKILL"}))
                .await?;
            context.output.line("kill signal has been sent")
        }
        Command::Destroy(arguments) => destroy(arguments, context).await,
        Command::Wait(arguments) => wait::run(arguments, context).await,
    }
}

/// One machine on the node.
#[derive(Debug, Clone)]
struct Machine {
    rest: Rest,
    app: String,
    id: String,
}

impl Machine {
    fn new(context: &Context<'_>, app: &AppArg, id: &str) -> Result<Self, Failure> {
        Ok(Self {
            rest: context.rest()?,
            app: context.app(app)?,
            id: id.to_owned(),
        })
    }

    fn path(&self, suffix: &str) -> String {
        format!(
            "/v1/apps/{}/machines/{}{suffix}",
            escaped(&self.app),
            escaped(&self.id)
        )
    }

    async fn get(&self) -> Result<Value, Failure> {
        self.rest
            .get("retrieve machine", &self.path(""))
            .await
            .map_err(|failure| self.named(failure))
    }

    async fn post(&self, doing: &'static str, suffix: &str, body: &Value) -> Result<Value, Failure> {
        self.rest
            .post(doing, &self.path(suffix), body)
            .await
            .map_err(|failure| self.named(failure))
    }

    /// Says which machine was not found, as `fly` does.
    fn named(&self, failure: Failure) -> Failure {
        naming(failure, "machine", &self.id, &self.app)
    }
}

async fn list(arguments: List, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let rest = context.rest()?;
    let path = format!("/v1/apps/{}/machines", escaped(&app));
    let machines = items(
        context
            .output
            .during("listing machines", rest.get("list machines", &path))
            .await?,
    );
    if arguments.json.json {
        return context.output.json(&machines);
    }
    if arguments.quiet {
        return machines
            .iter()
            .try_for_each(|machine| context.output.line(text(machine, "id")));
    }
    if machines.is_empty() {
        return context
            .output
            .line(format!("No machines are available on this app {app}"));
    }
    let heading = context.output.bold(&app);
    context.output.line(format!(
        "{} {} been retrieved from app {app}.\n\n{heading}",
        table::counted(machines.len() as u64, "machine"),
        if machines.len() == 1 { "has" } else { "have" },
    ))?;
    let table = render::list(&machines, context.clock.now());
    context.output.raw(table.as_bytes())
}

async fn status(arguments: Status, context: &mut Context<'_>) -> Result<(), Failure> {
    let machine = Machine::new(context, &arguments.one.app, &arguments.one.machine)?;
    let value = machine.get().await?;
    if arguments.json.json {
        return context.output.json(&value);
    }
    let (vm, events) = (context.output.bold("VM"), context.output.bold("Event Logs"));
    let now = context.clock.now();
    context.output.raw(render::head(&value).as_bytes())?;
    context.output.line(format!("\n{vm}"))?;
    context.output.raw(render::vm(&value, &machine.app).as_bytes())?;
    context.output.line(format!("\n{events}"))?;
    context.output.raw(render::events(&value, now).as_bytes())?;
    if arguments.display_config {
        context.output.line("Config:")?;
        context.output.json(&value["config"])?;
    }
    Ok(())
}

async fn start(arguments: Many, context: &mut Context<'_>) -> Result<(), Failure> {
    for id in &arguments.machines {
        let machine = Machine::new(context, &arguments.app, id)?;
        let body = json!({});
        let work = machine.post("start machine", "/start", &body);
        context.output.during("starting", work).await?;
        let value = wait::until_up(&machine, wait::START_WITHIN, &context.output).await?;
        wait::refuse_failed(&value)?;
        match text(&value, "state") {
            "started" => context.output.line(format!("{id} has been started"))?,
            // It ran to its end before we looked.
            state => context
                .output
                .line(format!("{id} has been started and is {state} already"))?,
        }
    }
    Ok(())
}

async fn stop(arguments: Stop, context: &mut Context<'_>) -> Result<(), Failure> {
    let within = arguments
        .wait_timeout
        .as_deref()
        .map(wait::duration)
        .transpose()?;
    for id in &arguments.many.machines {
        let machine = Machine::new(context, &arguments.many.app, id)?;
        let timeout = arguments.timeout.map(|seconds| format!("{seconds}s"));
        let body = json!({"signal": arguments.signal, "timeout": timeout});
        context
            .output
            .say(format!("Sending kill signal to machine {id}..."))?;
        machine.post("stop machine", "/stop", &body).await?;
        match within {
            Some(within) => {
                wait::until(&machine, "stopped", within, &context.output).await?;
                context
                    .output
                    .line(format!("{id} has been successfully stopped"))?;
            }
            None => context.output.line(format!("{id} is being stopped"))?,
        }
    }
    Ok(())
}

async fn suspend(arguments: Suspend, context: &mut Context<'_>) -> Result<(), Failure> {
    let within = arguments
        .wait_timeout
        .as_deref()
        .map(wait::duration)
        .transpose()?;
    for id in &arguments.many.machines {
        let machine = Machine::new(context, &arguments.many.app, id)?;
        let body = json!({});
        let work = machine.post("suspend machine", "/suspend", &body);
        context.output.during("suspending", work).await?;
        match within {
            Some(within) => {
                wait::until(&machine, "suspended", within, &context.output).await?;
                context.output.line(format!("{id} has been suspended"))?;
            }
            None => context.output.line(format!("{id} is being suspended"))?,
        }
    }
    Ok(())
}

async fn restart(arguments: Restart, context: &mut Context<'_>) -> Result<(), Failure> {
    for id in &arguments.many.machines {
        let machine = Machine::new(context, &arguments.many.app, id)?;
        let mut suffix = format!("/restart?force_stop={}", arguments.force_stop);
        if let Some(seconds) = arguments.timeout {
            suffix.push_str(&format!("&timeout={seconds}"));
        }
        if let Some(signal) = &arguments.signal {
            suffix.push_str(&format!("&signal={}", escaped(signal)));
        }
        context.output.say(format!("Restarting machine {id}"))?;
        let body = json!({});
        let work = machine.post("restart machine", &suffix, &body);
        context.output.during("restarting", work).await?;
        wait::until(&machine, "started", wait::START_WITHIN, &context.output).await?;
        context
            .output
            .line(format!("Machine {id} restarted successfully!"))?;
    }
    Ok(())
}

async fn destroy(arguments: Destroy, context: &mut Context<'_>) -> Result<(), Failure> {
    for id in &arguments.many.machines {
        let machine = Machine::new(context, &arguments.many.app, id)?;
        let state = text(&machine.get().await?, "state").to_owned();
        if !arguments.force && ["started", "starting", "restarting"].contains(&state.as_str()) {
            return Err(Failure::MachineBusy {
                id: id.clone(),
                state,
            });
        }
        let path = machine.path(&format!("?force={}", arguments.force));
        let work = machine.rest.delete("destroy machine", &path);
        context.output.during("destroying", work).await?;
        wait::until(&machine, "destroyed", wait::START_WITHIN, &context.output).await?;
        context.output.line(format!("{id} has been destroyed"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
