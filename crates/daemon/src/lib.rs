//! What every daemon of the project shares: process set-up, orderly shutdown, named tasks, HTTP over Unix
//! sockets, the one JSON error shape, configuration files, wall time, randomness, metrics.
//!
//! A daemon's `main` is one call of [`run`]; everything else here is used from inside it.

pub mod api_error;
pub mod config_file;
pub mod metrics;
pub mod random;
pub mod unix_http;
pub mod wall_clock;

mod log;
mod panic;
mod run;
mod shutdown;
mod spawn;

pub use api_error::{ApiError, ApiJson, ApiQuery};
pub use log::Logging;
pub use panic::end_on_panic;
pub use run::{Context, run, run_logging};
pub use spawn::spawn;
