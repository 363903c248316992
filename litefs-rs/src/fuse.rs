//! The file system that applications see: one flat directory of databases.
//!
//! Requests come on a few threads that serve everybody. Reads take nothing but the file. What is done to a database takes its
//! [`lane`](crate::store::lane); what would wait there is left to the database's own worker, so that one that is slow holds
//! up nobody else's.
//!
//! What the kernel may remember: which names there are and are not, sizes, and all bytes of databases and logs. Everything
//! that applications do goes through it; what this node does behind its back it is told of ([`kernel`]). The index of a log is
//! memory that processes share, and where the kernel can it is our own file's (passthrough): then there is one copy of it.

mod attributes;
mod errno;
mod files;
mod fs;
mod inodes;
mod kernel;
mod listing;
mod locks;
mod mount;
mod special;

pub use mount::{MountError, Mounted, Options, mount};
