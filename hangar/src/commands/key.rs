//! `hangar key`.

use std::io::Read as _;
use std::path::Path;

use serde_json::json;

use super::{Context, text};
use crate::cli::key::{Command, Export, Import};
use crate::failure::Failure;

pub(super) async fn run(command: Command, context: &mut Context<'_>) -> Result<(), Failure> {
    match command {
        Command::Export(arguments) => export(arguments, context).await,
        Command::Import(arguments) => import(arguments, context).await,
    }
}

async fn export(arguments: Export, context: &mut Context<'_>) -> Result<(), Failure> {
    if let Some(path) = arguments.output.as_deref().filter(|path| path.exists()) {
        // It may be the only copy of another node's key.
        return Err(Failure::File {
            path: path.to_owned(),
            source: std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "it is there already and is not overwritten; name another file",
            ),
        });
    }
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    let body = json!({"passphrase": passphrase});
    let answer = context
        .rest()?
        .post("export key", "/hangar/v1/key/export", &body)
        .await?;
    let key = text(&answer, "text");
    match arguments.output {
        None => context.output.line(key)?,
        Some(path) => {
            let line = format!("{key}\n");
            crashsafe::write_atomic(
                &crashsafe::RealDisk,
                "hangar:key_export",
                &path,
                line.as_bytes(),
                0o600,
            )
            .map_err(|source| Failure::File {
                path: path.clone(),
                source,
            })?;
            context
                .output
                .say(format!("Wrote the cluster key to {}", path.display()))?;
        }
    }
    context
        .output
        .say("Keep it away from this host and from the bucket: with both, anyone reads every volume.")
}

async fn import(arguments: Import, context: &mut Context<'_>) -> Result<(), Failure> {
    let key = read(&arguments.file)?;
    let passphrase = arguments.passphrase_file.as_deref().map(passphrase).transpose()?;
    let body = json!({"text": key.trim(), "passphrase": passphrase});
    let answer = context
        .rest()?
        .post("import key", "/hangar/v1/key/import", &body)
        .await?;
    let id = text(&answer, "id");
    context.output.line(format!("Imported cluster key {id}"))
}

fn read(path: &Path) -> Result<String, Failure> {
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

fn passphrase(path: &Path) -> Result<String, Failure> {
    Ok(read(path)?.lines().next().unwrap_or_default().to_owned())
}
