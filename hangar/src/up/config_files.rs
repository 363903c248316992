//! The daemons' configurations, made anew at each start from `node.toml`.

use std::path::Path;

use toml::{Table, Value};

use super::UpError;
use crate::node::{Layout, NodeConfig, first_config};

/// What is known only at the start.
#[derive(Debug)]
pub(super) struct Generated<'a> {
    /// Where volumed keeps backups.
    pub(super) store: objstore::S3Config,
    /// Guest kernel and initramfs.
    pub(super) assets: &'a Path,
    /// Address of the public API.
    pub(super) listen: &'a str,
}

/// Reads `node.toml`; writes the first one when there is none.
pub(super) fn load_or_create(layout: &Layout) -> Result<NodeConfig, UpError> {
    let path = layout.node_toml();
    if !path.exists() {
        let zones = [(); 3].map(|()| daemon::random::hex(2));
        write_file(&path, &first_config(&zones))?;
    }
    Ok(daemon::config_file::load(&path)?)
}

/// Writes the configuration of every daemon.
pub(super) fn write(layout: &Layout, node: &NodeConfig, generated: &Generated<'_>) -> Result<(), UpError> {
    let files = [
        ("volumed", volumed(layout, node, &generated.store)?, &node.volumed),
        (
            "machine-runner",
            machine_runner(layout, node, generated.assets),
            &node.machine_runner,
        ),
        ("flaps", flaps(layout, node, generated.listen), &node.flaps),
    ];
    for (daemon, mut table, over) in files {
        merge(&mut table, over);
        let path = layout.config(daemon);
        let text = toml::to_string(&table).map_err(|source| UpError::Toml {
            path: path.clone(),
            source,
        })?;
        write_file(
            &path,
            &format!("# Made by `hangar up` from node.toml at each start; change node.toml instead.\n{text}"),
        )?;
    }
    Ok(())
}

fn volumed(layout: &Layout, node: &NodeConfig, store: &objstore::S3Config) -> Result<Table, UpError> {
    let store = Value::try_from(store).map_err(|source| UpError::Toml {
        path: layout.config("volumed"),
        source,
    })?;
    let mut table = table([
        ("socket", text(&layout.socket("volumed"))),
        ("data_dir", text(&layout.below("volumed"))),
        ("region", node.region.clone().into()),
        ("machine_runner", text(&layout.socket("machine-runner"))),
        ("object_store", store),
    ]);
    let zones = node.zones.iter().cloned().map(Value::from).collect();
    table.insert("zones".to_owned(), Value::Array(zones));
    Ok(table)
}

fn machine_runner(layout: &Layout, node: &NodeConfig, assets: &Path) -> Table {
    table([
        ("data_dir", text(&layout.below("machine-runner"))),
        ("socket", text(&layout.socket("machine-runner"))),
        ("volumed_socket", text(&layout.socket("volumed"))),
        ("assets_dir", text(assets)),
        ("region", node.region.clone().into()),
    ])
}

fn flaps(layout: &Layout, node: &NodeConfig, listen: &str) -> Table {
    let region = table([
        ("code", node.region.clone().into()),
        ("name", "This node".into()),
        ("geo_region", "local".into()),
    ]);
    let mut table = table([
        ("listen", listen.into()),
        ("socket", text(&layout.socket("flaps"))),
        ("catalog", text(&layout.below("flaps/catalog.db"))),
        ("token_file", text(&layout.below("flaps/token"))),
        ("address_file", text(&layout.below("run/flaps.addr"))),
        ("volumed_socket", text(&layout.socket("volumed"))),
        ("machine_runner_socket", text(&layout.socket("machine-runner"))),
    ]);
    table.insert("regions".to_owned(), Value::Array(vec![Value::Table(region)]));
    table
}

fn table<const N: usize>(fields: [(&str, Value); N]) -> Table {
    fields
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

fn text(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

/// Lays `over` onto `table`: tables are joined, anything else is replaced.
fn merge(table: &mut Table, over: &Table) {
    for (field, value) in over {
        match (table.get_mut(field), value) {
            (Some(Value::Table(old)), Value::Table(new)) => merge(old, new),
            _ => {
                table.insert(field.clone(), value.clone());
            }
        }
    }
}

/// Writes a private file whole or not at all: configurations may hold credentials.
pub(super) fn write_file(path: &Path, text: &str) -> Result<(), UpError> {
    crashsafe::write_atomic(
        &crashsafe::RealDisk,
        "hangar:config",
        path,
        text.as_bytes(),
        0o600,
    )
    .map_err(|source| UpError::file(path, source))
}

#[cfg(test)]
mod tests;
