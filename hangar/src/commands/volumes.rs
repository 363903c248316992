//! `hangar volumes`.

use serde_json::{Value, json};

use super::{Context, items, naming, snapshots, text};
use crate::cli::volumes::{Command, Create, Destroy, Extend, Fork, List, One, Update};
use crate::failure::Failure;
use crate::rest::escaped;
use crate::size::{self, NewSize};
use crate::{table, when};

/// Not shown by `list` without `--all`.
const HIDDEN_STATES: [&str; 6] = [
    "scheduling_destroy",
    "fork_cleanup",
    "waiting_for_detach",
    "pending_destroy",
    "destroying",
    "destroyed",
];

pub(super) async fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create(arguments, context).await,
        Command::List(arguments) => list(arguments, context).await,
        Command::Show(arguments) => show(arguments, context).await,
        Command::Extend(arguments) => extend(arguments, context).await,
        Command::Update(arguments) => update(arguments, context).await,
        Command::Fork(arguments) => fork(arguments, context).await,
        Command::Attach(arguments) => super::mounts::attach(arguments, context).await,
        Command::Detach(arguments) => super::mounts::detach(arguments, context).await,
        Command::Drain(arguments) => super::moves::drain(arguments, context).await,
        Command::Claim(arguments) => super::moves::claim(arguments, context).await,
        Command::Destroy(arguments) => destroy(arguments, context).await,
        Command::Recover(arguments) => recover(arguments, context).await,
        Command::Snapshots { command } => snapshots::run(command, context).await,
    }
}

async fn create(arguments: Create, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let size_gb = arguments.size.as_deref().map(parse_size).transpose()?;
    // Without a size a restored volume takes its snapshot's, an empty one what `fly` gives.
    let size_gb = size_gb.or_else(|| arguments.snapshot_id.is_none().then_some(1));
    let rest = context.rest()?;
    let path = format!("/v1/apps/{}/volumes", escaped(&app));
    // A bottomless volume outlives its host.
    let lives_on_one_host = !arguments.bottomless && arguments.kind.as_deref() != Some("bottomless");
    if arguments.count == 1 && lives_on_one_host && !arguments.yes.yes {
        let known = items(rest.get("list volumes", &path).await?);
        if !known.iter().any(|volume| text(volume, "name") == arguments.name) {
            context.output.say(
                "Warning! Volumes live on one host: keep two or more of a name, or rely on snapshots.",
            )?;
            context.output.confirm(false, "Create a single volume?")?;
        }
    }
    for _ in 0..arguments.count {
        let body = json!({
            "name": arguments.name,
            "region": arguments.region,
            "size_gb": size_gb,
            "encrypted": arguments.no_encryption.then_some(false),
            "require_unique_zone": arguments.require_unique_zone,
            "unique_zone_app_wide": arguments.unique_zone_app_wide,
            "snapshot_retention": arguments.snapshot_retention,
            "snapshot_retention_hourly": arguments.counts.snapshot_retention_hourly,
            "snapshot_retention_daily": arguments.counts.snapshot_retention_daily,
            "snapshot_retention_weekly": arguments.counts.snapshot_retention_weekly,
            "auto_backup_enabled": arguments.scheduled_snapshots,
            "fstype": arguments.fs_type,
            "snapshot_id": arguments.snapshot_id,
            "type": if arguments.bottomless { Some("bottomless") } else { arguments.kind.as_deref() },
            "pool": arguments.pool,
            "idempotency_key": daemon::random::hex(16),
        });
        let work = rest.post("create volume", &path, &body);
        let volume = context.output.during("creating the volume", work).await?;
        print(context, &app, &volume, arguments.json.json)?;
        if let Some(sentence) = unfinished(&volume) {
            context.output.say(sentence)?;
        }
    }
    Ok(())
}

async fn list(arguments: List, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let rest = context.rest()?;
    let path = format!("/v1/apps/{}/volumes", escaped(&app));
    let all = items(
        context
            .output
            .during("listing volumes", rest.get("list volumes", &path))
            .await?,
    );
    let hidden = |volume: &Value| !arguments.all && HIDDEN_STATES.contains(&text(volume, "state"));
    let volumes: Vec<Value> = all.into_iter().filter(|volume| !hidden(volume)).collect();
    if arguments.json.json {
        return context.output.json(&volumes);
    }
    let now = context.clock.now();
    let rows: Vec<Vec<String>> = volumes
        .iter()
        .map(|volume| {
            let unwell = !["", "ok"].contains(&text(volume, "host_status"));
            vec![
                format!("{}{}", text(volume, "id"), if unwell { "*" } else { "" }),
                text(volume, "state").to_owned(),
                text(volume, "name").to_owned(),
                format!("{}GB", volume["size_gb"]),
                text(volume, "region").to_owned(),
                text(volume, "zone").to_owned(),
                volume["encrypted"].to_string(),
                text(volume, "attached_machine_id").to_owned(),
                when::ago_text(text(volume, "created_at"), now),
            ]
        })
        .collect();
    let headings = [
        "id",
        "state",
        "name",
        "size",
        "region",
        "zone",
        "encrypted",
        "attached vm",
        "created at",
    ];
    context.output.raw(table::render(&headings, &rows).as_bytes())
}

async fn show(arguments: One, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let volume = context
        .rest()?
        .get("retrieve volume", &one(&app, &arguments.volume))
        .await
        .map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
    print(context, &app, &volume, arguments.json.json)?;
    if arguments.json.json {
        return Ok(());
    }
    context.output.raw(life(&volume).as_bytes())?;
    if volume["disk"].is_object() {
        context.output.raw(disk(&volume["disk"]).as_bytes())?;
    }
    context.output.raw(proof(&volume).as_bytes())
}

/// Says that a volume is not ready yet, and how to see when it is; nothing of one that is.
pub(super) fn unfinished(volume: &Value) -> Option<String> {
    let (id, state) = (text(volume, "id"), text(volume, "state"));
    ["creating", "restoring", "hydrating"].contains(&state).then(|| {
        format!(
            "Volume {id} is {state}: it is ready when `hangar volumes show {id}` says created; `hangar machine run` waits for it"
        )
    })
}

/// How the disk of a bottomless volume is.
fn disk(disk: &Value) -> String {
    let bytes = |field: &str| size::bytes(disk[field].as_u64().unwrap_or(0));
    let mut fields = vec![("Disk", text(disk, "state").to_owned())];
    if disk["epoch"].is_u64() {
        fields.extend([
            (
                "Not in the bucket yet",
                format!("{}, {} ms old", bytes("lag_bytes"), disk["lag_ms"]),
            ),
            (
                "Journal filled",
                format!("{} per mille", disk["ring_fill_permille"]),
            ),
            (
                "In the bucket",
                format!(
                    "{}, {} of it garbage",
                    bytes("stored_bytes"),
                    bytes("garbage_bytes")
                ),
            ),
        ]);
    }
    table::block(&fields)
}

/// Where the volume is in its life: what `fly` shows in its list only.
fn life(volume: &Value) -> String {
    let mut fields = vec![
        ("Type", text(volume, "type").to_owned()),
        ("State", text(volume, "state").to_owned()),
    ];
    let holder = match (text(volume, "host_path"), text(volume, "attached_machine_id")) {
        ("", "") => "nobody".to_owned(),
        ("", machine) => machine.to_owned(),
        (path, _) => format!("this host, at {path}"),
    };
    fields.push(("Attached VM", holder));
    if volume["needs_restart"] == true {
        let when = "not grown yet; it does when a busy guest comes to it, at the latest when it is next started or attached";
        fields.push(("File system", when.to_owned()));
    }
    for (label, field) in [("Deleted at", "deleted_at"), ("Removed after", "purge_after")] {
        match text(volume, field) {
            "" => {}
            at => fields.push((label, when::date_text(at))),
        }
    }
    for (label, field) in [
        ("Snapshots blocked", "snapshot_blocked"),
        ("Growth blocked", "auto_extend_blocked"),
    ] {
        match text(volume, field) {
            "" => {}
            why => fields.push((label, why.to_owned())),
        }
    }
    table::block(&fields)
}

/// What is known of the volume's backups: the part that `fly` does not show.
fn proof(volume: &Value) -> String {
    let verified = match text(volume, "last_verified_restore") {
        "" => "never".to_owned(),
        at => when::date_text(at),
    };
    let kept: Vec<String> = [("hourly", "hour"), ("daily", "day"), ("weekly", "week")]
        .into_iter()
        .filter_map(|(count, unit)| {
            let count = volume[format!("snapshot_retention_{count}")].as_u64()?;
            (count > 0).then(|| table::counted(count, unit))
        })
        .collect();
    let mut fields = vec![("Last verified restore", verified)];
    // Of counts that nobody set there is nothing to say.
    if !kept.is_empty() {
        fields.push(("Also kept", format!("newest of {}", kept.join(", "))));
    }
    table::block(&fields)
}

async fn extend(arguments: Extend, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let missing = Failure::MissingOption {
        what: "invalid size: use -s GB, or -s +GB to add",
    };
    let given = arguments.size.ok_or(missing)?;
    let wanted = size::parse_new(&given).ok_or_else(|| bad_size(&given))?;
    let rest = context.rest()?;
    let path = one(&app, &arguments.volume);
    let size_gb = match wanted {
        NewSize::To(size_gb) => size_gb,
        NewSize::By(more) => {
            let volume = rest.get("retrieve volume", &path).await;
            let volume = volume.map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
            volume["size_gb"].as_u64().unwrap_or(0).saturating_add(more)
        }
    };
    let body = json!({"size_gb": size_gb});
    let (extend_path, message) = (format!("{path}/extend"), format!("extending to {size_gb} GB"));
    let work = rest.put("extend volume", &extend_path, &body);
    let answer = context.output.during(&message, work).await;
    let answer = answer.map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
    let volume = &answer["volume"];
    if arguments.json.json {
        return context.output.json(volume);
    }
    print(context, &app, volume, false)?;
    let needs_restart = answer["needs_restart"].as_bool().unwrap_or(false);
    let holder = match text(volume, "attached_machine_id") {
        "" => Holder::Nobody,
        _ if !volume["host_path"].is_null() => Holder::Host,
        id => {
            let machine = format!("/v1/apps/{}/machines/{}", escaped(&app), escaped(id));
            let machine = rest.get("retrieve machine", &machine).await?;
            Holder::Machine(text(&machine, "state").to_owned())
        }
    };
    context.output.line(grown(needs_restart, &holder))
}

/// Who has a volume that was extended.
enum Holder {
    Nobody,
    Host,
    /// A machine in this state.
    Machine(String),
}

/// Says what the extend came to; for a machine that runs in the words of `fly`.
fn grown(needs_restart: bool, holder: &Holder) -> String {
    match holder {
        Holder::Machine(state) if state == "suspended" => {
            "Your Machine is suspended: its file system grows when it is resumed".to_owned()
        }
        Holder::Machine(state) if ["created", "stopped", "failed"].contains(&state.as_str()) => {
            format!("Your Machine is {state}: its file system grows when it starts")
        }
        Holder::Nobody => {
            "No Machine has the volume: its file system grows when one starts with it".to_owned()
        }
        Holder::Host if needs_restart => {
            "Detach the volume from this host and attach it again to increase the size of its file system"
                .to_owned()
        }
        Holder::Host => "The volume's file system on this host has grown with it".to_owned(),
        Holder::Machine(_) if needs_restart => {
            "You will need to stop and start your Machine to increase the size of the file system".to_owned()
        }
        Holder::Machine(_) => {
            "Your Machine got its volume size extended without needing a restart".to_owned()
        }
    }
}

async fn update(arguments: Update, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let body = json!({
        "snapshot_retention": arguments.snapshot_retention,
        "snapshot_retention_hourly": arguments.counts.snapshot_retention_hourly,
        "snapshot_retention_daily": arguments.counts.snapshot_retention_daily,
        "snapshot_retention_weekly": arguments.counts.snapshot_retention_weekly,
        "auto_backup_enabled": arguments.scheduled_snapshots,
    });
    if body
        .as_object()
        .is_some_and(|body| body.values().all(Value::is_null))
    {
        return Err(Failure::MissingOption {
            what: "nothing to change: use --snapshot-retention, --snapshot-retention-hourly, -daily or -weekly, or \
                   --scheduled-snapshots",
        });
    }
    let volume = context
        .rest()?
        .put("update volume", &one(&app, &arguments.volume), &body)
        .await
        .map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
    print(context, &app, &volume, arguments.json.json)
}

async fn fork(arguments: Fork, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let rest = context.rest()?;
    let source = rest.get("retrieve volume", &one(&app, &arguments.volume)).await;
    let source = source.map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
    let body = json!({
        "name": arguments.name.as_deref().unwrap_or(text(&source, "name")),
        "region": arguments.region,
        "source_volume_id": arguments.volume,
        "require_unique_zone": arguments.require_unique_zone,
        "unique_zone_app_wide": arguments.unique_zone_app_wide,
        "idempotency_key": daemon::random::hex(16),
    });
    let path = format!("/v1/apps/{}/volumes", escaped(&app));
    let volume = context
        .output
        .during("forking the volume", rest.post("fork volume", &path, &body))
        .await?;
    print(context, &app, &volume, arguments.json.json)
}

async fn destroy(arguments: Destroy, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let rest = context.rest()?;
    for id in &arguments.volumes {
        let (path, warning) = if arguments.purge {
            (
                format!("/hangar{}/purge", one(&app, id)),
                "Warning: a purged volume is gone for good at once.",
            )
        } else {
            (
                one(&app, id),
                "Warning: a destroyed volume is gone for good after its grace period of a day.",
            )
        };
        if !arguments.yes.yes {
            context.output.say(warning)?;
        }
        context
            .output
            .confirm(arguments.yes.yes, &format!("Destroy volume {id}?"))?;
        let volume = if arguments.purge {
            rest.post("purge volume", &path, &json!({})).await
        } else {
            rest.delete("destroy volume", &path).await
        };
        let volume = volume.map_err(|failure| naming(failure, "volume", id, &app))?;
        context.output.line(format!(
            "Destroyed volume ID: {id} name: {}",
            text(&volume, "name")
        ))?;
    }
    Ok(())
}

async fn recover(arguments: One, context: &mut Context<'_>) -> Result<(), Failure> {
    let app = context.app(&arguments.app)?;
    let path = format!("/hangar{}/recover", one(&app, &arguments.volume));
    let recovered = context.rest()?.post("recover volume", &path, &json!({})).await;
    let volume = recovered.map_err(|failure| naming(failure, "volume", &arguments.volume, &app))?;
    print(context, &app, &volume, arguments.json.json)
}

pub(super) fn print(context: &mut Context<'_>, app: &str, volume: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return context.output.json(volume);
    }
    context.output.raw(block(app, volume).as_bytes())
}

/// The block that `fly` prints for one volume.
fn block(app: &str, volume: &Value) -> String {
    table::block(&[
        ("ID", text(volume, "id").to_owned()),
        ("Name", text(volume, "name").to_owned()),
        ("App", app.to_owned()),
        ("Region", text(volume, "region").to_owned()),
        ("Zone", text(volume, "zone").to_owned()),
        ("Size GB", volume["size_gb"].to_string()),
        ("Encrypted", volume["encrypted"].to_string()),
        ("Created at", when::date_text(text(volume, "created_at"))),
        ("Snapshot retention", volume["snapshot_retention"].to_string()),
        ("Scheduled snapshots", volume["auto_backup_enabled"].to_string()),
    ])
}

pub(super) fn one(app: &str, volume: &str) -> String {
    format!("/v1/apps/{}/volumes/{}", escaped(app), escaped(volume))
}

fn parse_size(given: &str) -> Result<u64, Failure> {
    size::parse_gb(given).ok_or_else(|| bad_size(given))
}

fn bad_size(given: &str) -> Failure {
    Failure::BadValue {
        what: "size",
        given: given.to_owned(),
        expected: "use whole GB, like 3 or 3gb, or +1 to add",
    }
}

#[cfg(test)]
mod tests;
