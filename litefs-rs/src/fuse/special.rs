//! What applications read of the node: `.lag`, `.primary`, `-pos`.

use crate::name::{DatabaseName, MountName};

use super::fs::Mount;

/// Bytes of `.lag`; one more where the node is not in sync yet.
pub(super) const LAG_BYTES: u64 = 11;
/// Bytes of a position with its line's end.
pub(super) const POS_BYTES: u64 = 34;

/// Returns what a special file holds at this moment; nothing when there is none.
pub(super) fn content(mount: &Mount, target: &MountName) -> Option<Vec<u8>> {
    match target {
        MountName::Lag => Some(lag(mount).into_bytes()),
        MountName::Primary => mount
            .node
            .primary()
            .map(|hostname| format!("{hostname}\n").into_bytes()),
        MountName::Pos(database) => pos(mount, database),
        MountName::Lock(_) => Some(Vec::new()),
        MountName::Database(_) | MountName::SideFile(..) | MountName::SuperJournal(_) => None,
    }
}

fn lag(mount: &Mount) -> String {
    // As LiteFS: a replica that never was in sync is as far behind as can be.
    let lag_ms = mount.node.lag_ms().unwrap_or(i64::from(i32::MAX));
    format!("{lag_ms:+010}\n")
}

fn pos(mount: &Mount, database: &DatabaseName) -> Option<Vec<u8>> {
    let slot = mount.store.get(database)?;
    Some(format!("{}\n", slot.noted().pos).into_bytes())
}
