//! The operator's and newcomer's command: `hangar up` runs a whole node, the rest drives it with the words of `fly`.

pub mod cli;
pub mod commands;
pub mod doctor;
pub mod environment;
pub mod failure;
pub mod guest_size;
pub mod node;
pub mod output;
pub mod rest;
pub mod size;
pub mod table;
pub mod up;
pub mod when;
