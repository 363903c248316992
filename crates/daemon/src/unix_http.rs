//! HTTP over Unix sockets: how the daemons of a node meet.

mod client;
mod server;

pub use client::{CallError, Client, Reply, ReplyStream};
pub use server::serve;

#[cfg(test)]
mod tests;
