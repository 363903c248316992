//! `hangar doctor`: what this host can and cannot do, what follows, and what to do about it.

use serde::Serialize;

use crate::cli::up::DoctorArgs;
use crate::commands::Context;
use crate::failure::Failure;
use crate::node::{Layout, NodeConfig, Programs};

mod disks;
mod guests;
mod kernel;
mod passthrough;
mod pools;
pub(crate) mod store;
mod sys;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Works, with a consequence worth knowing.
    Note,
    /// Works, and should be changed.
    Warning,
    /// A node cannot do its main job without it.
    Missing,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What follows from it; empty when nothing does.
    pub follows: String,
    /// What to do; empty when there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// A finding without consequences.
    pub fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self {
            name,
            verdict: Verdict::Ok,
            found: found.into(),
            follows: String::new(),
            remedy: String::new(),
        }
    }

    /// A finding with consequences.
    pub fn bad(
        name: &'static str,
        verdict: Verdict,
        (found, follows, remedy): (impl Into<String>, &str, impl Into<String>),
    ) -> Self {
        Self {
            name,
            verdict,
            found: found.into(),
            follows: follows.to_owned(),
            remedy: remedy.into(),
        }
    }
}

/// Runs every check and prints the findings.
///
/// # Errors
/// [`Failure::HostNotReady`] when something essential is missing.
pub async fn run(arguments: &DoctorArgs, context: &mut Context<'_>) -> Result<(), Failure> {
    let layout = Layout::new(context.environment.data_directory());
    let programs = Programs::beside_this_one()?;
    let assets = programs.assets(arguments.assets.clone().or_else(|| context.environment.assets()));
    let work = examine(&layout, &programs, &assets);
    let findings = context.output.during("examining this host", work).await;
    let ready = findings.iter().all(|finding| finding.verdict != Verdict::Missing);
    if arguments.json.json {
        context
            .output
            .json(&serde_json::json!({"ready": ready, "findings": findings}))?;
    } else {
        for finding in &findings {
            let text = render(finding, context);
            context.output.raw(text.as_bytes())?;
        }
    }
    if ready { Ok(()) } else { Err(Failure::HostNotReady) }
}

async fn examine(layout: &Layout, programs: &Programs, assets: &std::path::Path) -> Vec<Finding> {
    let node = daemon::config_file::load::<NodeConfig>(layout.node_toml());
    let has_own_store = node.as_ref().is_ok_and(|node| node.s3.is_some());
    let folder = layout.below("volumed/pool");
    let folders = node
        .as_ref()
        .map_or_else(|_| vec![folder.clone()], |node| node.pool_folders(&folder));
    let health = store::volumed_health(layout).await;
    let mut findings = vec![
        guests::programs(programs),
        guests::accelerator(layout, programs).await,
        guests::qemu(&node).await,
        guests::assets(assets),
        kernel::device_mapper(),
        kernel::lvm(),
        kernel::fuse(),
        kernel::io_uring(),
        disks::data_directory(layout),
        disks::reflink(&folders),
        disks::bucket_place(layout, &folders, has_own_store),
    ];
    findings.push(store::probe(layout, node.as_ref().ok()).await);
    let listed = pools::listed(layout).await;
    let listed = listed.as_deref();
    findings.extend([
        pools::states(listed),
        pools::unknown_slices(listed),
        pools::snapshot_room(listed),
    ]);
    let inspected = pools::inspected(layout).await;
    let inspected = inspected.as_ref();
    findings.extend([
        pools::volumes(inspected, listed),
        pools::mounts(inspected),
        pools::snapshots(inspected),
        pools::foreign_files(inspected, listed),
    ]);
    findings.push(store::key(health.as_ref()));
    findings.push(store::zones(node.as_ref().ok()));
    if let Err(error @ daemon::config_file::ConfigError::Parse { .. }) = &node {
        let cause = std::error::Error::source(error)
            .map(ToString::to_string)
            .unwrap_or_default();
        let what = (
            format!("{error}: {cause}"),
            "`hangar up` will not start",
            "correct the file",
        );
        findings.push(Finding::bad("node.toml", Verdict::Missing, what));
    }
    findings
}

fn render(finding: &Finding, context: &Context<'_>) -> String {
    let (word, colour) = match finding.verdict {
        Verdict::Ok => ("ok", "32"),
        Verdict::Note => ("note", "36"),
        Verdict::Warning => ("warning", "33"),
        Verdict::Missing => ("missing", "31"),
    };
    let word = context.output.painted(&format!("{word:<8}"), colour);
    let mut text = format!("{word} {:<16} {}\n", finding.name, finding.found);
    let indent = " ".repeat(26);
    for (label, line) in [("so", &finding.follows), ("do", &finding.remedy)] {
        if !line.is_empty() {
            text.push_str(&format!("{indent}{label}: {line}\n"));
        }
    }
    text
}

#[cfg(test)]
mod tests;
