//! The initramfs: a newc archive, the same bytes for the same inputs, made without root.

use super::{modules::Modules, tools::HostFile};
use anyhow::{Context, Result};
use cpio::newc::{Builder, trailer};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
};

/// Counts changes of what goes where.
pub(super) const LAYOUT: u32 = 1;

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;
const CONSOLE: u32 = 0o020_600;

struct Node {
    mode: u32,
    device: (u32, u32),
    bytes: Vec<u8>,
}

/// Returns the archive: `/init`, modules with their orders, the tools with their libraries, `/dev/console`.
pub(super) fn build(init: &[u8], modules: &Modules, tools: &[HostFile]) -> Result<Vec<u8>> {
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    let mut add = |path: &str, mode, bytes: &[u8]| {
        nodes.insert(
            path.to_owned(),
            Node {
                mode,
                device: (0, 0),
                bytes: bytes.to_vec(),
            },
        );
    };
    add("init", PROGRAM, init);
    for (name, bytes) in &modules.files {
        add(&format!("lib/modules/{name}"), FILE, bytes);
    }
    for (group, names) in &modules.orders {
        let text: String = names.iter().map(|name| format!("{name}\n")).collect();
        add(&format!("lib/modules/{group}"), FILE, text.as_bytes());
    }
    for tool in tools {
        let path = tool.path.to_string_lossy();
        add(path.trim_start_matches('/'), PROGRAM, &tool.bytes);
    }
    for directory in ["dev", "proc", "sys", "run", "tmp", "etc", "mnt", "root"] {
        add(directory, DIRECTORY, &[]);
    }
    nodes.insert(
        "dev/console".to_owned(),
        Node {
            mode: CONSOLE,
            device: (5, 1),
            bytes: Vec::new(),
        },
    );
    add_parents(&mut nodes);
    write(&nodes)
}

fn add_parents(nodes: &mut BTreeMap<String, Node>) {
    let mut parents = BTreeSet::new();
    for path in nodes.keys() {
        let ancestors = Path::new(path).ancestors().skip(1);
        parents.extend(
            ancestors
                .map(|parent| parent.to_string_lossy().into_owned())
                .filter(|p| !p.is_empty()),
        );
    }
    for parent in parents {
        nodes.entry(parent).or_insert(Node {
            mode: DIRECTORY,
            device: (0, 0),
            bytes: Vec::new(),
        });
    }
}

/// Writes the nodes in the order of their names, which puts each directory before what is in it.
fn write(nodes: &BTreeMap<String, Node>) -> Result<Vec<u8>> {
    let mut archive = Vec::new();
    for (index, (path, node)) in nodes.iter().enumerate() {
        let entry = Builder::new(path)
            .ino(u32::try_from(index + 1).context("too many files")?)
            .mode(node.mode)
            .nlink(1)
            .mtime(0)
            .rdev_major(node.device.0)
            .rdev_minor(node.device.1);
        let bytes = u32::try_from(node.bytes.len()).with_context(|| format!("{path} is too large"))?;
        let mut writer = entry.write(&mut archive, bytes);
        writer
            .write_all(&node.bytes)
            .with_context(|| format!("add {path}"))?;
        writer.finish().with_context(|| format!("add {path}"))?;
    }
    trailer(&mut archive).context("end the archive")?;
    // The kernel looks for archives at four-byte borders; QEMU hands over pages.
    archive.resize(archive.len().next_multiple_of(512), 0);
    Ok(archive)
}

#[cfg(test)]
mod tests;
