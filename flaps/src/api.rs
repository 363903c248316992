//! The HTTP face: shared state, middleware, and one file per part of the API.

use std::sync::Arc;

use daemon::wall_clock::WallClock;

use crate::config::{Config, Region};
use crate::refusal::Refusal;
use crate::store::{Organization, Store};
use crate::upstream::Upstream;

mod app_destroy;
mod apps;
mod body;
mod edge;
mod extensions;
mod machines;
mod orgs;
mod platform;
mod query;
mod routes;
mod scope;
mod secrets;
mod volumes;

pub use app_destroy::resume_destroys;
pub use routes::router;

/// What every handler knows.
#[derive(Debug, Clone)]
pub struct Api(Arc<Shared>);

/// The parts of [`Api`].
#[derive(Debug)]
pub struct Shared {
    /// The checked settings.
    pub config: Config,
    /// Our catalog.
    pub store: Store,
    /// The one organization of this node.
    pub organization: Organization,
    /// Wall time.
    pub clock: Arc<dyn WallClock>,
    /// volumed.
    pub volumed: Upstream,
    /// machine-runner.
    pub machine_runner: Upstream,
}

impl std::ops::Deref for Api {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Api {
    /// Joins the parts: opens nothing, starts nothing but the default organization's row.
    ///
    /// # Errors
    /// [`crate::store::StoreError`].
    pub async fn new(
        config: Config,
        store: Store,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, crate::store::StoreError> {
        let organization = store.ensure_organization(config.organization.clone()).await?;
        let volumed = Upstream::new("volumed", config.volumed_socket.clone(), config.call_timeout);
        let machine_runner = Upstream::new(
            "machine-runner",
            config.machine_runner_socket.clone(),
            config.call_timeout,
        );
        Ok(Self(Arc::new(Shared {
            config,
            store,
            organization,
            clock,
            volumed,
            machine_runner,
        })))
    }

    fn default_region(&self) -> &Region {
        self.config
            .regions
            .first()
            .expect("a checked configuration has a region")
    }

    fn check_region(&self, region: &str) -> Result<(), Refusal> {
        if self.config.regions.iter().any(|known| known.code == region) {
            return Ok(());
        }
        let known: Vec<&str> = self
            .config
            .regions
            .iter()
            .map(|known| known.code.as_str())
            .collect();
        Err(Refusal::RegionNotFound {
            region: region.to_owned(),
            known: known.join(", "),
        })
    }
}

#[cfg(test)]
mod tests;
