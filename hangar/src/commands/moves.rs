//! `hangar volumes drain` and `claim`: bottomless volumes between nodes.

use serde_json::{Value, json};

use super::volumes::{one, print, unfinished};
use super::{Context, naming, text};
use crate::cli::volumes::{Claim, Drain};
use crate::failure::Failure;

pub(super) async fn drain(arguments: Drain, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let id = &arguments.volume;
    let path = format!("/hangar{}/drain", one(&app, id));
    let rest = context.rest()?;
    if arguments.give_up {
        let kept = rest.delete("keep volume", &path).await;
        let volume = kept.map_err(|failure| naming(failure, "volume", id, &app))?;
        if arguments.json.json {
            return context.output.json(&volume);
        }
        return context.output.line(format!("Volume {id} stays on this node"));
    }
    let nothing = json!({});
    let work = rest.post("drain volume", &path, &nothing);
    let answer = context.output.during("uploading what is left", work).await;
    let answer = answer.map_err(|failure| naming(failure, "volume", id, &app))?;
    if arguments.json.json {
        return context.output.json(&answer);
    }
    context.output.line(drained(id, &answer))
}

/// Says what a drain came to.
fn drained(id: &str, answer: &Value) -> String {
    match text(answer, "waits_for") {
        "" => format!(
            "Volume {id} is drained: `hangar volumes claim {id}` takes it up, on any node with this bucket and cluster key"
        ),
        why => format!(
            "Volume {id} is still being drained, and that goes on by itself; it waits for: {why}\n\
             `hangar volumes drain --give-up {id}` keeps it here"
        ),
    }
}

pub(super) async fn claim(arguments: Claim, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let id = &arguments.volume;
    let rest = context.rest()?;
    if arguments.force {
        if !arguments.yes.yes {
            context
                .output
                .say("Warning: what the volume's last host wrote and had not uploaded is lost for good.")?;
        }
        let question = format!("Claim volume {id} by force?");
        context.output.confirm(arguments.yes.yes, &question)?;
    }
    let path = format!("/hangar{}/claim", one(&app, id));
    let body = json!({"force": arguments.force});
    let work = rest.post("claim volume", &path, &body);
    let claimed = context.output.during("opening the volume's disk", work).await;
    let volume = claimed.map_err(|failure| naming(failure, "volume", id, &app))?;
    print(context, &app, &volume, arguments.json.json)?;
    match unfinished(&volume) {
        Some(sentence) => context.output.say(sentence),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
