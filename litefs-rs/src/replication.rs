//! Databases on their way from the primary to its replicas.
//!
//! A replica sends the positions of its databases ([`position_map`]) and reads frames ([`frame`]) without end. On the primary
//! [`catch_up`] says what is sent next, on the replica [`follower`] what is done with it.

pub mod catch_up;
pub mod follower;
pub mod frame;
pub mod position_map;
pub mod status;
