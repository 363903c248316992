//! Loading kernel modules from the initramfs, in the order that was worked out when it was built.

use std::fs::{self, File};
use std::io;
use std::path::Path;

const DIR: &str = "/lib/modules";

/// Why the modules of an order file are not loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModuleError {
    /// No such order file: the initramfs was built without them.
    #[error("read {order}")]
    Order {
        order: String,
        #[source]
        source: io::Error,
    },
    /// The kernel refused one.
    #[error("load {module}")]
    Load {
        module: String,
        #[source]
        source: io::Error,
    },
}

/// Loads what every guest needs.
pub(crate) fn load_boot_set() -> Result<(), ModuleError> {
    load("order")
}

/// Loads what XFS needs.
pub(crate) fn load_xfs() -> Result<(), ModuleError> {
    load("order.xfs")
}

fn load(order: &str) -> Result<(), ModuleError> {
    let text = fs::read_to_string(Path::new(DIR).join(order));
    let text = text.map_err(|source| ModuleError::Order {
        order: order.to_owned(),
        source,
    })?;
    for module in text.lines().filter(|line| !line.is_empty()) {
        load_one(module).map_err(|source| ModuleError::Load {
            module: module.to_owned(),
            source,
        })?;
    }
    Ok(())
}

fn load_one(module: &str) -> io::Result<()> {
    let file = File::open(Path::new(DIR).join(module))?;
    match rustix::system::finit_module(&file, c"", 0) {
        // Loaded already; or a driver for hardware that is not there, such as a CPU feature.
        Ok(()) | Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
