//! The catalog's tables and their versions.

use rusqlite::Connection;

use super::StoreError;

/// Each entry brings the schema from its index to the next version; entries are never changed, only added.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE organizations (
        id INTEGER PRIMARY KEY,
        slug TEXT NOT NULL UNIQUE,
        name TEXT NOT NULL
    ) STRICT;
    CREATE TABLE apps (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL UNIQUE,
        organization_id INTEGER NOT NULL REFERENCES organizations (id),
        network TEXT NOT NULL,
        app_role TEXT NOT NULL,
        created_at TEXT NOT NULL,
        idempotency_key TEXT UNIQUE,
        deleting_at TEXT,
        secrets_version INTEGER NOT NULL DEFAULT 0
    ) STRICT;
    CREATE TABLE tokens (
        hash BLOB PRIMARY KEY CHECK (length(hash) = 32),
        app_id INTEGER REFERENCES apps (id) ON DELETE CASCADE,
        created_at TEXT NOT NULL,
        expires_at TEXT
    ) STRICT;
    CREATE TABLE secrets (
        app_id INTEGER NOT NULL REFERENCES apps (id) ON DELETE CASCADE,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        digest TEXT NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL,
        PRIMARY KEY (app_id, name)
    ) STRICT;
    CREATE TABLE settings (
        name TEXT PRIMARY KEY,
        value BLOB NOT NULL
    ) STRICT;
    INSERT INTO settings (name, value) VALUES ('digest_key', randomblob(32));
"];

/// Sets the connection up and migrates the file.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let known = i64::try_from(MIGRATIONS.len()).map_err(|_| StoreError::Corrupt {
        field: "user_version",
    })?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let found: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    let done = usize::try_from(found).map_err(|_| StoreError::Corrupt {
        field: "user_version",
    })?;
    for migration in &MIGRATIONS[done..] {
        transaction.execute_batch(migration)?;
    }
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
