//! Tables and their migrations.

use rusqlite::Connection;

use super::CatalogError;

/// Each entry takes the schema one version further; the file's version is SQLite's `user_version`.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE machines (
    id      TEXT PRIMARY KEY,
    app     TEXT NOT NULL,
    record  TEXT NOT NULL
) STRICT;
CREATE INDEX machines_by_app ON machines (app);
CREATE TABLE versions (
    seq         INTEGER PRIMARY KEY,
    machine_id  TEXT NOT NULL,
    version     TEXT NOT NULL,
    user_config TEXT NOT NULL
) STRICT;
CREATE INDEX versions_by_machine ON versions (machine_id, seq);
CREATE TABLE events (
    seq         INTEGER PRIMARY KEY,
    machine_id  TEXT NOT NULL,
    event       TEXT NOT NULL
) STRICT;
CREATE INDEX events_by_machine ON events (machine_id, seq);
CREATE TABLE leases (
    machine_id  TEXT PRIMARY KEY,
    lease       TEXT NOT NULL
) STRICT;
CREATE TABLE networks (
    name        TEXT PRIMARY KEY,
    number      INTEGER NOT NULL UNIQUE
) STRICT;
"];

pub(super) fn prepare(connection: &mut Connection) -> Result<(), CatalogError> {
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let found: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if found > known {
        return Err(CatalogError::Newer { found, known });
    }
    let done = usize::try_from(found).unwrap_or(0);
    for (version, migration) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(
            None,
            "user_version",
            i64::try_from(version + 1).unwrap_or(i64::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(())
}
