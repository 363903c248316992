//! Process tests: a whole node of real daemons, spoken to over its public API.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod bad_input;
mod bottomless;
mod captures;
mod disks;
mod host_loss;
mod host_mounts;
mod incremental;
mod kill_rounds;
mod moves;
mod names;
mod point_in_time;
mod pool_place;
mod pool_walk;
mod power_cut;
mod shared_blocks;
mod store_damage;
