use zeroize::Zeroizing;

use super::{Service, refusal};
use crate::error::Refusal;
use crate::keys::{ClusterKey, KeyFileError};
use crate::ops::chain;

const EXPORTED_AT: &str = "cluster_key_exported_at";

impl Service {
    /// Returns the cluster key as text, and remembers that it was exported.
    pub async fn export_key(&self, passphrase: Option<&str>) -> Result<Zeroizing<String>, Refusal> {
        let text = self
            .ctx
            .keys
            .get()
            .export_text(passphrase.filter(|p| !p.is_empty()), &*self.ctx.random);
        let now = self.ctx.clock.now().to_string();
        let noted = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.set_setting(EXPORTED_AT, &now)?));
        noted.await.map_err(refusal)?;
        Ok(text)
    }

    /// Says when the key in use was last exported.
    pub async fn key_exported_at(&self) -> Result<Option<String>, Refusal> {
        let found = self
            .ctx
            .catalog
            .transact(|tx| Ok(tx.setting(EXPORTED_AT)?))
            .await
            .map_err(refusal)?;
        Ok(found.filter(|at| !at.is_empty()))
    }

    /// Replaces the cluster key by an exported one. Returns the new key's id.
    ///
    /// # Errors
    /// 422 for a text that is no key; 412 once the present key has sealed anything.
    pub async fn import_key(&self, text: &str, passphrase: Option<&str>) -> Result<String, Refusal> {
        let imported = ClusterKey::import_text(text, passphrase.filter(|p| !p.is_empty()));
        let imported = imported
            .map_err(|e| Refusal::invalid(format!("{}; paste the whole exported text", chain(&e))))?;
        let present = self.ctx.keys.get();
        if imported.id() == present.id() {
            return Ok(imported.id().to_string());
        }
        let ours = present.id();
        let used = self.ctx.catalog.transact(move |tx| {
            let volumes = tx.existing_volumes()?;
            let by_volume = volumes
                .iter()
                .find(|v| v.wrapped_key.cluster_key_id() == ours)
                .map(|v| v.id.to_string());
            let snapshots = tx.snapshots()?;
            let sealed = snapshots.iter().find(|s| s.wrapped_key.cluster_key_id() == ours);
            Ok(by_volume.or(sealed.map(|s| s.id.to_string())))
        });
        if let Some(user) = used.await.map_err(refusal)? {
            return Err(Refusal::precondition(format!(
                "the present cluster key has sealed {user} and cannot be replaced; import into a node without volumes"
            )));
        }
        let replaced = imported.replace(&*self.ctx.disk, &self.ctx.keys.path, &present.id());
        replaced.map_err(|error: KeyFileError| Refusal::internal(chain(&error)))?;
        let id = imported.id().to_string();
        self.ctx.keys.set(imported);
        // Whoever imported it has it in safe keeping.
        let now = self.ctx.clock.now().to_string();
        let noted = self
            .ctx
            .catalog
            .transact(move |tx| Ok(tx.set_setting(EXPORTED_AT, &now)?));
        noted.await.map_err(refusal)?;
        Ok(id)
    }
}
