//! What the process tests and simulated worlds share.

pub mod disks;
pub mod image;
pub mod node;
pub mod operations_world;
pub mod pool_walk;
pub mod reflink;
pub mod volumed;
pub mod volumes;
