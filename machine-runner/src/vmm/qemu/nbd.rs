//! Volumes behind an NBD server: the size of an export is settled when a client connects.

use std::path::PathBuf;

use serde_json::json;

use super::argv::{nbd_node, raw_node, volume_file_node, volume_node};
use super::{Qemu, VmmError};
use crate::vmm::spec::VolumeDisk;

/// What the back end keeps of a volume.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) serial: String,
    pub(super) export: Option<Export>,
}

/// Where an NBD server has a volume.
#[derive(Debug)]
pub(super) struct Export {
    socket: PathBuf,
    name: String,
}

impl Disk {
    pub(super) fn of(volume: &VolumeDisk) -> Self {
        let export = volume.export.clone().map(|name| Export {
            socket: volume.path.clone(),
            name,
        });
        Self {
            serial: volume.serial.clone(),
            export,
        }
    }
}

impl Qemu {
    /// Connects a volume anew, because its export has grown to `size_bytes`, and puts the new connection in the place of
    /// the old one. The guest does not notice: what it asks for meanwhile waits.
    ///
    /// # Errors
    /// [`VmmError::Job`] when the export is smaller.
    pub(super) async fn reconnect(
        &self,
        index: usize,
        export: &Export,
        size_bytes: u64,
    ) -> Result<(), VmmError> {
        let (node, first) = (volume_node(index), volume_file_node(index));
        let fresh = format!("{first}-{size_bytes}");
        let before = self.nodes_like(&first).await?;
        if !before.contains(&fresh) {
            let connected = nbd_node(&fresh, &export.socket, &export.name);
            self.qmp.execute("blockdev-add", connected).await?;
        }
        let found_bytes = self.node_bytes(&fresh).await?;
        if found_bytes < size_bytes {
            self.remove_node(&fresh).await?;
            return Err(VmmError::Job {
                what: "grow a disk",
                reason: format!("its export has {found_bytes} bytes, and not {size_bytes} yet"),
            });
        }
        let reopened = json!({"options": [raw_node(&node, &fresh)]});
        self.qmp.execute("blockdev-reopen", reopened).await?;
        for old in before.iter().filter(|old| **old != fresh) {
            self.remove_node(old).await?;
        }
        Ok(())
    }

    async fn remove_node(&self, node: &str) -> Result<(), VmmError> {
        self.qmp
            .execute("blockdev-del", json!({"node-name": node}))
            .await?;
        Ok(())
    }

    async fn nodes_like(&self, prefix: &str) -> Result<Vec<String>, VmmError> {
        let nodes = self
            .qmp
            .execute("query-named-block-nodes", json!({"flat": true}))
            .await?;
        let names = nodes.as_array().into_iter().flatten();
        let names = names.filter_map(|entry| entry["node-name"].as_str());
        Ok(names
            .filter(|name| name.starts_with(prefix))
            .map(str::to_owned)
            .collect())
    }
}
