//! LVM, device-mapper and dm-crypt, driven by their own programs.
//!
//! [`report`], [`status`] and [`thin_delta`] read what programs print (pure); [`group`] is one
//! volume group, one command at a time; [`crypt`] is LUKS2 on a device; [`tags`] says which logical volumes are ours;
//! [`thin_pool`] decides when a thin pool grows and when it refuses work (pure).

pub mod crypt;
pub mod group;
pub mod report;
pub mod status;
pub mod tags;
pub mod thin_delta;
pub mod thin_pool;
