//! Kinds of volumes: which pool a request means, and what does not go with a bottomless one.

use std::sync::Arc;

use super::Service;
use super::create::CreateRequest;
use super::fields::check_size;
use crate::error::Refusal;
use crate::pool::Pool;
use crate::volume::{SizeGb, Volume};

/// As large as anything was tried: 64 TiB.
const BOTTOMLESS_BYTES_MAX: u64 = 64 << 40;

/// What a volume begins as, as far as it decides where the volume can be.
pub(super) struct Begins<'a> {
    /// What it is called, for a sentence.
    pub(super) name: String,
    /// In which pool its bytes are; none when they are in a backup.
    pub(super) disk_of: Option<&'a str>,
}

impl Service {
    /// Finds the pool of a volume that begins as another, or as a snapshot: a bottomless one is forked where it is, and nothing else
    /// can become bottomless.
    pub(super) fn pool_for(
        &self,
        wanted: &str,
        request: &CreateRequest,
        begins: &Begins<'_>,
    ) -> Result<String, Refusal> {
        let in_disk = match begins.disk_of {
            Some(pool) if self.pool(pool)?.is_bottomless() => Some(pool),
            Some(_) | None => None,
        };
        let named = |field: &Option<String>| field.as_deref().is_some_and(|text| !text.is_empty());
        let wanted_bottomless = self.pool(wanted)?.is_bottomless();
        match in_disk {
            Some(pool) if wanted_bottomless || !(named(&request.r#type) || named(&request.pool)) => {
                Ok(pool.to_owned())
            }
            Some(_) => Err(Refusal::invalid(format!(
                "{} is bottomless, and so is what begins as it; leave type and pool out",
                begins.name
            ))),
            None if wanted_bottomless => Err(Refusal::invalid(format!(
                "{} is local, and a bottomless volume cannot begin as it; make an empty one and copy into it",
                begins.name
            ))),
            None => Ok(wanted.to_owned()),
        }
    }

    /// How large a volume of a pool may be.
    pub(super) fn size_max(&self, pool: &dyn Pool) -> SizeGb {
        if pool.is_bottomless() {
            SizeGb::holding(BOTTOMLESS_BYTES_MAX)
        } else {
            self.ctx.settings.size_max
        }
    }

    /// How large a volume of any pool may be.
    pub(super) fn size_max_of_all(&self) -> SizeGb {
        let largest = self.ctx.pools.all().map(|pool| self.size_max(&**pool)).max();
        largest.unwrap_or(self.ctx.settings.size_max)
    }

    /// Refuses a volume that is larger than its pool's may be.
    pub(super) fn check_size_in_pool(&self, volume: &Volume) -> Result<(), Refusal> {
        let most = self.size_max(&**self.pool(&volume.pool)?);
        check_size(&volume.size.get().into(), most).map(drop)
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
    if request.encrypted == Some(false) {
        return Err(Refusal::invalid(
            "a bottomless volume is always encrypted; leave encrypted out",
        ));
    }
    Ok(())
}
