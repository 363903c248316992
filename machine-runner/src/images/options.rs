//! How a store is set up.

use std::path::PathBuf;
use std::sync::Arc;

use daemon::wall_clock::{SystemClock, WallClock};

/// Bounds on what an import may use; beyond them it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sum of all layers, decompressed; and of all files, holes included.
    pub unpacked_bytes_max: u64,
    /// Files in all layers together.
    pub entries_max: usize,
    /// Layers.
    pub layers_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked_bytes_max: 64 << 30,
            entries_max: 2_000_000,
            layers_max: 500,
        }
    }
}

/// How a store is set up.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    pub limits: Limits,
    /// The guest's architecture, in the words of image indexes: `amd64`, `arm64`.
    pub architecture: String,
    /// A file as `docker login` writes it; its credentials are used for pulls.
    pub docker_config: Option<PathBuf>,
    pub clock: Arc<dyn WallClock>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            limits: Limits::default(),
            architecture: architecture.to_owned(),
            docker_config: None,
            clock: Arc::new(SystemClock),
        }
    }
}
