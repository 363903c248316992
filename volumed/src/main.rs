//! `volumed`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use daemon::unix_http::Client;
use volumed::cli::{Cli, Command};
use volumed::disk::{Insist, NewDisk};
use volumed::disk_tools::{Subject, ToolError, Tools};
use volumed::service::{ScrubReport, ScrubRequest};
use volumed::volume::VolumeId;

/// Reading a whole bucket back takes its time.
const SCRUB_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// `scrub` found damage.
const DAMAGED: u8 = 1;
/// `scrub` could not look at everything; what it saw was right. So do wrong arguments end.
const NOT_CHECKED: u8 = 2;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve { config } => daemon::run("volumed", async |ctx| {
            let config = volumed::config::load(&config)?;
            volumed::serve::serve(ctx, config).await
        }),
        Command::Disk {
            id,
            config,
            force,
            discard_stale_journal,
            discard_damaged_journal,
        } => {
            let insist = Insist {
                force,
                discard_stale_journal,
                discard_damaged_journal,
                ..Insist::default()
            };
            disk(&config, &id, insist)
        }
        Command::DiskCreate {
            id,
            config,
            size_bytes,
            ring_bytes,
            cache_bytes,
            slice,
        } => daemon::run("volumed-disk-create", async |_ctx| -> anyhow::Result<()> {
            let config = volumed::config::load(&config)?;
            let new = NewDisk {
                volume_id: VolumeId::parse(&id)?,
                size_bytes,
                ring_bytes,
                cache_bytes,
                slice,
            };
            Ok(new.make(&config).await?)
        }),
        Command::Fsck { id, config, fronts } => tool("volumed-fsck", &config, &id, async |tools| {
            let checked = tools.fsck(!fronts).await?;
            Ok((checked.to_string(), checked.is_damaged()))
        }),
        Command::Dump {
            id,
            config,
            object,
            journal,
        } => {
            let subject = match (object, journal) {
                (_, Some(slice)) => Subject::Journal(slice),
                (Some(object), None) => Subject::Object(object),
                (None, None) => Subject::Head,
            };
            tool("volumed-dump", &config, &id, async |tools| {
                Ok((tools.dump(subject).await?, false))
            })
        }
        Command::Salvage {
            id,
            config,
            image,
            beyond,
        } => tool("volumed-salvage", &config, &id, async |tools| {
            let salvaged = tools.salvage(&image, beyond).await?;
            Ok((salvaged.to_string(), salvaged.is_damaged()))
        }),
        Command::Scrub {
            config,
            volume,
            restore,
            blocks,
            json,
        } => {
            let request = ScrubRequest {
                volume_id: volume,
                restore,
                blocks,
            };
            scrub(&config, &request, json)
        }
        Command::NbdFile {
            socket,
            export,
            directory,
        } => daemon::run("volumed-nbd-file", async |ctx| {
            let config = nbd_file::Config::new(&socket, &export, &directory);
            volumed::nbd_file::serve(ctx, config).await
        }),
    }
}

/// Runs a tool on a volume's disk, and prints what it says; exit status 1 when that is of damage.
#[allow(clippy::print_stdout)] // data for the caller
fn tool(
    name: &'static str,
    config: &Path,
    id: &str,
    work: impl AsyncFnOnce(Tools) -> Result<(String, bool), ToolError>,
) -> ExitCode {
    let mut told = None;
    let code = daemon::run(name, async |_ctx| -> anyhow::Result<()> {
        let config = volumed::config::load(config)?;
        let tools = Tools::open(&config, &VolumeId::parse(id)?).await?;
        told = Some(work(tools).await?);
        Ok(())
    });
    let Some((text, damaged)) = told else {
        return code;
    };
    print!("{text}");
    if damaged { ExitCode::FAILURE } else { code }
}

/// Serves a disk; the exit code says what to do next.
fn disk(config: &Path, id: &str, insist: Insist) -> ExitCode {
    let mut verdict = None;
    let code = daemon::run("volumed-disk", async |ctx| -> anyhow::Result<()> {
        let config = volumed::config::load(config)?;
        let served = volumed::disk::serve(ctx, config, VolumeId::parse(id)?, insist).await;
        if let Err(error) = &served {
            verdict = Some(error.verdict());
        }
        Ok(served?)
    });
    match verdict {
        Some(verdict) => ExitCode::from(verdict.exit_code()),
        None => code,
    }
}

#[allow(clippy::print_stdout)] // data for the caller
fn scrub(config: &Path, request: &ScrubRequest, json: bool) -> ExitCode {
    let mut found = ScrubReport::default();
    let asked = daemon::run("volumed-scrub", async |_ctx| -> anyhow::Result<()> {
        let config = volumed::config::load(config)?;
        let client = Client::new(&config.socket).with_timeout(SCRUB_TIMEOUT);
        found = client.post("/v1/scrub", request).await?;
        Ok(())
    });
    if asked != ExitCode::SUCCESS {
        return ExitCode::from(NOT_CHECKED);
    }
    if json {
        println!("{}", serde_json::json!(found));
    } else {
        for look in &found.scrubbed {
            let how = if look.restored { "restored" } else { "sampled" };
            println!(
                "{} of {}: {how}, {} bytes right",
                look.snapshot_id, look.volume_id, look.bytes
            );
            look.damages
                .iter()
                .for_each(|damage| println!("  damaged: {damage}"));
        }
        found.errors.iter().for_each(|why| println!("not read: {why}"));
    }
    if found.scrubbed.iter().any(|look| !look.damages.is_empty()) {
        ExitCode::from(DAMAGED)
    } else if found.errors.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(NOT_CHECKED)
    }
}
