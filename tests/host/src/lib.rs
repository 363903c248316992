//! The host tier: tests that need a kernel with device-mapper, run inside a guest under QEMU.
//!
//! The test program runs twice. Outside it lists and filters tests as any test program does, boots a guest with itself
//! inside, and asks that guest for one test after another. Inside it is PID 1, and runs the functions.

mod case;
mod guest;
mod harness;
mod image;
mod machine;
mod nbd;
mod power_cut;
mod volatile_disk;
mod wire;

pub use case::{Body, Case, End, PowerCut};
pub use guest::{Guest, Ran};
pub use harness::{is_long, main};
