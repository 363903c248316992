//! HALT: an application on a replica takes the primary's write lock of a database, and writes.
//!
//! ```text
//! application   F_OFD_SETLKW on byte 72 of <db>-lock ─► POST /halt ─► primary: writers kept out, grant     [`grants`]
//! replica       waits until it is where the primary is, puts its log away ─► lock granted                 [`holding`]
//! application   COMMIT ─► LTX file ─► POST /tx ─► primary: applied, counts ─► counts here ─► COMMIT returned
//! replica       asks again for the same lock, every now and then, if the primary renews it
//! application   F_UNLCK, or its last handle is closed ─► DELETE /halt ─► primary: writers go on
//! ```
//!
//! Who may write, until when, and what a transaction must be like are decided by [`grants`] on the primary and [`holding`] on the
//! replica; beside them the drivers: [`granting`] and [`holder`]. [`wire`] is what they say to each other.

pub mod granting;
pub mod grants;
pub mod holder;
pub mod holding;
pub mod wire;

pub use grants::Grants;
pub use holder::Halts;

use crate::db::locks::Owner;

/// Who keeps writers out for a replica, among the holders of locks: the kernel names none so.
pub const HALTED: Owner = Owner(u64::MAX - 1);
/// The byte of `<database>-lock` that an application locks.
pub const HALT_BYTE: i64 = 72;
/// How long who wants the lock waits for others to let go of the database.
pub const ACQUIRE_MAX: std::time::Duration = std::time::Duration::from_secs(10);
