//! The real program, a real mount, the real SQLite in this process and in others.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod api;
mod halts;
mod kills;
mod lease_places;
mod leases;
mod modes;
mod node;
mod proxies;
mod replicas;
mod special_files;
mod supervised;
mod transfers;
mod verify;
mod without_passthrough;
