//! Databases on their way from the primary to its replicas.
//!
//! A replica sends the positions of its databases ([`position_map`]) and reads frames ([`frame`]) without end.

pub mod frame;
pub mod position_map;
