//! The demonstration image, made once a test run and imported into a node.

use crate::node::{Node, programs};
use anyhow::{Result, ensure};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The reference under which [`import`] makes the image known.
pub const NAME: &str = "demo:latest";

/// Returns the OCI layout of a small image with busybox.
///
/// # Panics
/// When it cannot be built.
pub fn layout() -> &'static Path {
    static LAYOUT: OnceLock<PathBuf> = OnceLock::new();
    LAYOUT.get_or_init(|| {
        let out = programs().join("it-image");
        let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        let status = build
            .args(["run", "--quiet", "-p", "xtask", "--", "demo-image"])
            .arg(&out)
            .status();
        let status = status.expect("cargo starts");
        assert!(status.success(), "the image does not build: {status}");
        out
    })
}

/// Imports the image into `node`.
///
/// # Errors
/// What `hangar images import` said.
pub fn import(node: &Node) -> Result<()> {
    let (code, _, words) = node.hangar(&["images", "import", &layout().to_string_lossy(), "--name", NAME])?;
    ensure!(code == 0, "import ended with {code}: {words}");
    Ok(())
}

/// Creates a machine of the image, with `config` merged over a sleeping default, and waits until it is started.
///
/// # Errors
/// What the API or the wait said.
pub async fn run(node: &Node, app: &str, config: Value) -> Result<String> {
    let mut whole =
        json!({"image": NAME, "init": {"exec": ["/bin/sh", "-c", "while true; do sleep 1; done"]}});
    for (key, value) in config.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    let machine = node
        .ok(
            "POST",
            &format!("/v1/apps/{app}/machines"),
            Some(&json!({"config": whole})),
        )
        .await?;
    let id = machine["id"].as_str().unwrap_or_default().to_owned();
    wait(node, app, &id, "started").await?;
    Ok(id)
}

/// Waits until a machine is in `state`.
///
/// # Errors
/// After three waits of a minute, with the machine's record.
pub async fn wait(node: &Node, app: &str, id: &str, state: &str) -> Result<()> {
    let path = format!("/v1/apps/{app}/machines/{id}");
    for _ in 0..3 {
        let answer = node
            .call("GET", &format!("{path}/wait?state={state}&timeout=60"), None)
            .await?;
        if answer.status == 200 {
            return Ok(());
        }
        ensure!(
            answer.status == 408,
            "wait for {state}: {} {}",
            answer.status,
            answer.body
        );
    }
    anyhow::bail!(
        "{id} is not {state}: {}\n{}",
        node.call("GET", &path, None).await?.body,
        node.logs()
    )
}

/// Runs a shell line in a machine and returns its standard output, trimmed; requires exit code 0.
///
/// # Errors
/// The whole answer otherwise.
pub async fn exec(node: &Node, app: &str, id: &str, line: &str) -> Result<String> {
    let body = json!({"command": ["/bin/sh", "-c", line], "timeout": 120});
    let answer = node
        .ok("POST", &format!("/v1/apps/{app}/machines/{id}/exec"), Some(&body))
        .await?;
    ensure!(answer["exit_code"] == 0, "`{line}`: {answer}");
    Ok(answer["stdout"].as_str().unwrap_or("").trim().to_owned())
}
