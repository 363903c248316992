//! `cargo xtask demo`: the main job on a throw-away node, driven by the `hangar` command as a user would.

mod node;
mod table;

use crate::{demo_image, setup, shell};
use anyhow::{Context, Result, bail, ensure};
use node::Node;
use serde_json::Value;
use table::Table;

/// The guest's workload: appends a line a moment to a file on the volume, so that there is always a writer.
const WRITER: &str = "i=0; while true; do i=$((i+1)); echo $i >> /data/ticks; sync; sleep 0.2; done";

/// What a node consists of.
const PROGRAMS: [&str; 4] = ["flaps", "hangar", "machine-runner", "volumed"];

/// Builds the programs of a node as they are installed, and nothing else of the workspace.
pub(crate) fn build() -> Result<()> {
    let mut cargo = shell::cargo(&["build", "--release", "--workspace"]);
    for program in PROGRAMS {
        cargo.args(["--bin", program]);
    }
    shell::must(&mut cargo)
}

/// Installs, builds, and plays the round; fails at the first thing that is not as it should be.
pub(crate) fn run() -> Result<()> {
    let mut table = Table::default();
    table.step("install what is missing", setup::run)?;
    table.step("build", build)?;
    table.start_clock();
    let mut node = table.step("start a node", Node::start)?;
    let played = play(&node, &mut table);
    let stopped = table.step("stop the node", || node.stop());
    played?;
    stopped?;
    table.print(&node);
    Ok(())
}

fn play(node: &Node, table: &mut Table) -> Result<()> {
    let image = node.dir().join("demo-image");
    table.step("build an image from Debian packages", || {
        demo_image::build(&image)
    })?;
    table.step("import it", || {
        node.hangar(&[
            "images",
            "import",
            &image.to_string_lossy(),
            "--name",
            "demo:latest",
        ])
    })?;
    table.step("create an app", || node.hangar(&["apps", "create", "demo"]))?;
    let volume = table.step("create a 1 GB volume", || {
        id(&node.json(&[
            "volumes", "create", "data", "-a", "demo", "-s", "1", "-y", "--json",
        ])?)
    })?;
    let mount = format!("{volume}:/data");
    let machine = table.step("run a machine, the volume at /data", || run_machine(node, &mount))?;
    let sum = table.step("write a file and its checksum", || {
        node.exec(
            &machine,
            "dd if=/dev/urandom of=/data/file bs=1M count=16 2>/dev/null; sync; sha256sum /data/file",
        )
    })?;
    extend(node, table, &machine, &volume)?;
    let snapshot = table.step("snapshot", || snapshot(node, &volume))?;
    table.step("overwrite the file, stop, start, read", || {
        let new = node.exec(
            &machine,
            "dd if=/dev/urandom of=/data/file bs=1M count=16 2>/dev/null; sync; sha256sum /data/file",
        )?;
        ensure!(new != sum, "the overwritten file still has the old checksum");
        node.hangar(&["machine", "stop", &machine, "-a", "demo", "--wait-timeout", "60s"])?;
        node.hangar(&["machine", "start", &machine, "-a", "demo"])?;
        node.hangar(&["machine", "wait", &machine, "-a", "demo", "--state", "started"])?;
        ensure!(
            node.exec(&machine, "sha256sum /data/file")? == new,
            "the file changed over a stop and a start"
        );
        Ok(())
    })?;
    restore(node, table, &snapshot, &sum)?;
    table.step("fork the volume", || {
        let fork = id(&node.json(&["volumes", "fork", &volume, "-a", "demo", "-n", "forked", "--json"])?)?;
        wait_volume(node, &fork)
    })?;
    table.step("kill machine-runner and volumed with SIGKILL", || {
        survive(node, &machine)
    })?;
    table.step("destroy the machine and the volume", || {
        node.hangar(&["machine", "destroy", &machine, "-a", "demo", "--force"])?;
        node.hangar(&["volumes", "destroy", &volume, "-a", "demo", "-y"])
    })
}

fn run_machine(node: &Node, mount: &str) -> Result<String> {
    node.hangar(&[
        "machine",
        "run",
        "demo:latest",
        "-a",
        "demo",
        "--volume",
        mount,
        "/bin/sh",
        "-c",
        WRITER,
    ])?;
    let machines = node.json(&["machine", "list", "-a", "demo", "--json"])?;
    let wanted = mount.split_once(':').map_or(mount, |(volume, _)| volume);
    let machine = machines
        .as_array()
        .context("a list of machines")?
        .iter()
        .find(|machine| machine["config"]["mounts"][0]["volume"] == wanted);
    id(machine.context("the machine is in the list")?)
}

fn extend(node: &Node, table: &mut Table, machine: &str, volume: &str) -> Result<()> {
    let before = node.exec(machine, "df -k /data | tail -n 1; wc -l < /data/ticks")?;
    table.step("extend to 2 GB under the writer", || {
        node.hangar(&["volumes", "extend", volume, "-a", "demo", "-s", "2"])
    })?;
    let after = node.exec(machine, "df -k /data | tail -n 1; wc -l < /data/ticks")?;
    eprintln!(
        "  df before: {}\n  df after:  {}",
        first_line(&before),
        first_line(&after)
    );
    let (small, large) = (df_kib(&before)?, df_kib(&after)?);
    ensure!(
        small < 1_048_576 && large > 1_800_000,
        "the guest saw {small} KiB before and {large} KiB after"
    );
    let (early, late) = (last_number(&before)?, last_number(&after)?);
    ensure!(
        late > early,
        "the writer stood still during the extend: {early} lines before, {late} after"
    );
    Ok(())
}

fn snapshot(node: &Node, volume: &str) -> Result<String> {
    node.hangar(&["volumes", "snapshots", "create", volume, "-a", "demo"])?;
    node.until("the snapshot to be backed up", 90, || {
        let list = node.json_quietly(&["volumes", "snapshots", "list", volume, "-a", "demo", "--json"])?;
        let newest = list
            .as_array()
            .and_then(|list| list.last())
            .cloned()
            .unwrap_or(Value::Null);
        Ok((newest["status"] == "created").then(|| id(&newest)))
    })?
}

fn restore(node: &Node, table: &mut Table, snapshot: &str, sum: &str) -> Result<()> {
    let machine = table.step("restore the snapshot into a second volume and machine", || {
        let words = [
            "volumes",
            "create",
            "restored",
            "-a",
            "demo",
            "-s",
            "2",
            "--snapshot-id",
            snapshot,
            "-y",
            "--json",
        ];
        let copy = id(&node.json(&words)?)?;
        wait_volume(node, &copy)?;
        run_machine(node, &format!("{copy}:/data"))
    })?;
    let old = node.exec(&machine, "sha256sum /data/file")?;
    ensure!(old == sum, "the restored file has checksum {old}, not {sum}");
    eprintln!("  the restored volume has the old content: {old}");
    node.hangar(&["machine", "destroy", &machine, "-a", "demo", "--force"])
}

fn wait_volume(node: &Node, volume: &str) -> Result<()> {
    node.until("the volume to be created", 120, || {
        let shown = node.json_quietly(&["volumes", "show", volume, "-a", "demo", "--json"])?;
        Ok((shown["state"] == "created").then_some(()))
    })
}

/// Kills both daemons and requires that the guest did not notice and both come back.
fn survive(node: &Node, machine: &str) -> Result<()> {
    let boot = "cat /proc/sys/kernel/random/boot_id";
    let before = node.exec(machine, boot)?;
    let ticks = last_number(&node.exec(machine, "wc -l < /data/ticks")?)?;
    node.kill_daemon("machine-runner")?;
    node.kill_daemon("volumed")?;
    let after = node.until("both daemons to be back", 60, || {
        Ok(node.exec(machine, boot).ok())
    })?;
    ensure!(
        before == after,
        "the guest rebooted: boot id {before} before, {after} after"
    );
    let later = last_number(&node.exec(machine, "wc -l < /data/ticks")?)?;
    ensure!(
        later > ticks,
        "the writer stood still while the daemons were dead"
    );
    eprintln!("  same boot id, and the writer went on from {ticks} to {later}");
    Ok(())
}

fn id(object: &Value) -> Result<String> {
    let id = object["id"].as_str().or_else(|| object["ID"].as_str());
    Ok(id.with_context(|| format!("an id in {object}"))?.to_owned())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("")
}

/// Reads the size column of `df -k`.
fn df_kib(text: &str) -> Result<u64> {
    let column = first_line(text).split_whitespace().nth(1);
    Ok(column.with_context(|| format!("a size in `{text}`"))?.parse()?)
}

fn last_number(text: &str) -> Result<u64> {
    match text.lines().last().map(|line| line.trim().parse()) {
        Some(Ok(number)) => Ok(number),
        _ => bail!("no number at the end of `{text}`"),
    }
}
