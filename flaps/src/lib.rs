//! The public API of a node: Machines API v1 over REST.
//!
//! Owns organizations, apps, tokens and secrets in its own catalog. Volumes belong to volumed and machines to
//! machine-runner: flaps authenticates a request, checks that the thing belongs to the app, and forwards it.

pub mod api;
pub mod app_name;
pub mod cli;
pub mod config;
pub mod duration_text;
pub mod ids;
pub mod network;
pub mod page;
pub mod refusal;
pub mod serve;
pub mod store;
pub mod token;
pub mod upstream;
