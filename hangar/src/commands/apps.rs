//! `hangar apps`.

use serde_json::json;

use super::{Context, items, text};
use crate::cli::apps::{Command, Create, Destroy, List};
use crate::failure::Failure;
use crate::rest::escaped;
use crate::table;

pub(super) async fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(arguments, context).await,
        Command::List(arguments) => list(arguments, context).await,
        Command::Destroy(arguments) => destroy(arguments, context).await,
    }
}

async fn create(arguments: Create, context: &mut Context<'_>) -> Result<(), Failure> {
    let name = arguments
        .name
        .unwrap_or_else(|| format!("app-{}", daemon::random::base36(8)));
    let body = json!({
        "name": name,
        "org_slug": arguments.org,
        "network": arguments.network,
        "idempotency_key": daemon::random::hex(16),
    });
    let app = context.rest()?.post("create app", "/v1/apps", &body).await?;
    if arguments.json.json {
        return context.output.json(&app);
    }
    context
        .output
        .line(format!("New app created: {}", text(&app, "name")))
}

async fn list(arguments: List, context: &mut Context<'_>) -> Result<(), Failure> {
    let path = format!("/v1/apps?org_slug={}", escaped(&arguments.org));
    let rest = context.rest()?;
    let mut answer = context
        .output
        .during("listing apps", rest.get("list apps", &path))
        .await?;
    let apps = items(answer["apps"].take());
    if arguments.json.json {
        return context.output.json(&apps);
    }
    if arguments.quiet {
        return apps
            .iter()
            .try_for_each(|app| context.output.line(text(app, "name")));
    }
    let rows: Vec<Vec<String>> = apps
        .iter()
        .map(|app| {
            let count = |field: &str| {
                app[field]
                    .as_u64()
                    .map_or_else(|| "?".to_owned(), |count| count.to_string())
            };
            let owner = text(&app["organization"], "slug").to_owned();
            vec![
                text(app, "name").to_owned(),
                owner,
                text(app, "status").to_owned(),
                text(app, "network").to_owned(),
                count("machine_count"),
                count("volume_count"),
            ]
        })
        .collect();
    let table = table::render(
        &["name", "owner", "status", "network", "machines", "volumes"],
        &rows,
    );
    context.output.raw(table.as_bytes())
}

async fn destroy(arguments: Destroy, context: &mut Context<'_>) -> Result<(), Failure> {
    let rest = context.rest()?;
    for name in &arguments.names {
        context.output.confirm(
            arguments.yes.yes,
            &format!("Destroy app {name} with all its machines?"),
        )?;
        let force = if arguments.force { "?force=true" } else { "" };
        let path = format!("/v1/apps/{}{force}", escaped(name));
        let work = rest.delete("destroy app", &path);
        context.output.during(&format!("destroying {name}"), work).await?;
        context.output.line(format!("Destroyed app {name}"))?;
        context.output.say(format!(
            "Its volumes can be recovered for a day: `hangar apps create {name}`, then `hangar volumes list --all -a {name}` \
             and `hangar volumes recover`"
        ))?;
    }
    Ok(())
}
