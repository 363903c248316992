//! LTX files that nobody needs any more.

use std::{
    io,
    time::{Duration, SystemTime},
};

use ltx::FileName;

use crate::{
    db::Database,
    store::{Refusal, Slot, Store, chain},
};

/// Removes LTX files of a database that are older than `age`; never the newest.
///
/// # Errors
/// As the disk.
pub fn enforce(store: &Store, slot: &Slot, age: Duration, now: SystemTime) -> io::Result<usize> {
    let directory = slot.directory().join("ltx");
    let disk = &store.node().disk;
    let entries = disk.list(&directory)?;
    let mut names: Vec<FileName> = entries
        .iter()
        .filter_map(|entry| entry.name.parse().ok())
        .collect();
    names.sort_by_key(|name| (name.max, name.min));
    names.pop();
    let mut removed = 0;
    for name in names {
        let path = directory.join(name.to_string());
        let old = match std::fs::metadata(&path).and_then(|metadata| metadata.modified()) {
            // Of a file from the future nobody knows how old it is.
            Ok(modified) => now.duration_since(modified).is_ok_and(|since| since > age),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(error),
        };
        if old && removed == 0 {
            // What is not durable by itself stands upon what is before it.
            let mut state = slot.lane().take();
            match store.with(slot, &mut state, Database::make_durable) {
                // One that is not served makes none.
                Ok(()) | Err(Refusal::Broken) => {}
                Err(error) => return Err(io::Error::other(chain(&error))),
            }
        }
        if old {
            disk.remove_file("retention", &path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// Removes what is old of all databases. What cannot be removed now is next time.
pub fn enforce_all(store: &Store, age: Duration, now: SystemTime) {
    for slot in store.all() {
        match enforce(store, &slot, age, now) {
            Ok(0) => {}
            Ok(removed) => tracing::debug!(db = %slot.name(), removed, "removed old transactions"),
            Err(error) => tracing::warn!(db = %slot.name(), %error, "old transactions stay"),
        }
    }
}
