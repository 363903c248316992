//! Kinds of volumes: which pool a request means, and what does not go with a bottomless one.

use std::sync::Arc;

use super::Service;
use super::create::CreateRequest;
use crate::error::Refusal;
use crate::pool::Pool;
use crate::volume::SizeGb;

/// As large as anything was tried: 64 TiB.
const BOTTOMLESS_BYTES_MAX: u64 = 64 << 40;
/// What is said to who wants a snapshot of a bottomless volume.
pub(super) const NO_SNAPSHOTS: &str =
    "bottomless volumes live in the bucket already; snapshots of them are not offered yet";

impl Service {
    /// How large a volume of a pool may be.
    pub(super) fn size_max(&self, pool: &dyn Pool) -> SizeGb {
        if pool.is_bottomless() {
            SizeGb::holding(BOTTOMLESS_BYTES_MAX)
        } else {
            self.ctx.settings.size_max
        }
    }

    /// The pool that was asked for, by its name or by the type of volume that it has.
    pub(super) fn wanted_pool(&self, request: &CreateRequest) -> Result<&Arc<dyn Pool>, Refusal> {
        let pools = &self.ctx.pools;
        let bottomless = match request.r#type.as_deref() {
            None | Some("") => None,
            Some("local") => Some(false),
            Some("bottomless") => Some(true),
            Some(other) => {
                return Err(Refusal::invalid(format!(
                    "type {other:?} is unknown; use local or bottomless"
                )));
            }
        };
        let named = request.pool.as_deref().filter(|pool| !pool.is_empty());
        let Some(name) = named else {
            let offered = pools.all().find(|pool| pool.is_bottomless());
            return match (bottomless, offered) {
                (Some(true), Some(pool)) => Ok(pool),
                (Some(true), None) => Err(Refusal::invalid(
                    "bottomless volumes are not offered by this node; use type local",
                )),
                _ => self.pool(pools.default_name()),
            };
        };
        let Some(found) = pools.get(name) else {
            let known: Vec<&str> = pools.all().map(|p| p.name()).collect();
            return Err(Refusal::invalid(format!(
                "pool {name:?} is unknown; this node has {}",
                known.join(", ")
            )));
        };
        if bottomless.is_some_and(|wanted| wanted != found.is_bottomless()) {
            return Err(Refusal::invalid(format!(
                "pool {name} has no volumes of that type; leave the pool or the type out"
            )));
        }
        Ok(found)
    }
}

/// What does not go with a bottomless volume, so that nothing is promised that is not kept.
pub(super) fn check_bottomless(request: &CreateRequest) -> Result<(), Refusal> {
    let filled = [&request.snapshot_id, &request.source_volume_id]
        .into_iter()
        .any(|source| source.as_deref().is_some_and(|id| !id.is_empty()));
    if filled {
        return Err(Refusal::invalid(
            "a bottomless volume cannot be made from a snapshot or another volume yet; make an empty one and copy into it",
        ));
    }
    if request.auto_backup_enabled == Some(true) {
        return Err(Refusal::invalid(NO_SNAPSHOTS));
    }
    if request.encrypted == Some(false) {
        return Err(Refusal::invalid(
            "a bottomless volume is always encrypted; leave encrypted out",
        ));
    }
    Ok(())
}
