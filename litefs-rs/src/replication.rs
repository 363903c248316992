//! Databases on their way from the primary to its replicas.
//!
//! A replica sends the positions of its databases ([`position_map`]) and reads frames ([`frame`]) without end. On the primary
//! [`catch_up`] says what is sent next, on the replica [`follower`] what is done with it. Beside them the drivers: [`sender`] on the primary,
//! [`client`] and one [`applier`] a database on a replica; [`status`] is what applications see of it, [`streams`] who is connected.

pub mod applier;
pub mod catch_up;
pub mod client;
pub mod follower;
pub mod frame;
pub mod position_map;
pub mod sender;
pub mod status;
pub mod streams;
