use rusqlite::{Connection, Error};

/// Newest schema this program writes.
pub(super) const VERSION: u32 = 1;

/// Each entry brings the schema from its index to the next number; entries are never changed once released.
const MIGRATIONS: [&str; VERSION as usize] = ["
    CREATE TABLE volumes (
        id TEXT PRIMARY KEY, app TEXT NOT NULL, state TEXT NOT NULL, seq INTEGER NOT NULL, doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX volumes_by_app ON volumes (app, seq);
    CREATE TABLE snapshots (
        id TEXT PRIMARY KEY, volume_id TEXT NOT NULL, app TEXT NOT NULL, state TEXT NOT NULL, seq INTEGER NOT NULL,
        doc TEXT NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX snapshots_by_volume ON snapshots (volume_id, seq);
    CREATE TABLE operations (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, kind TEXT NOT NULL,
        ended INTEGER NOT NULL, at TEXT NOT NULL, doc TEXT NOT NULL
    );
    CREATE UNIQUE INDEX operations_running ON operations (subject) WHERE ended = 0;
    CREATE INDEX operations_by_subject ON operations (subject, seq);
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT NOT NULL, subject TEXT NOT NULL, kind TEXT NOT NULL,
        message TEXT NOT NULL
    );
    CREATE INDEX events_by_subject ON events (subject, seq);
    CREATE TABLE requests (
        app TEXT NOT NULL, key TEXT NOT NULL, volume_id TEXT NOT NULL, fingerprint TEXT NOT NULL,
        PRIMARY KEY (app, key)
    ) WITHOUT ROWID;
    CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO counters VALUES ('seq', 0);
"];

/// Returns the schema that the file has; 0 for a new one.
pub(super) fn found(connection: &Connection) -> Result<u32, Error> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings the schema up to date, all in one transaction.
pub(super) fn migrate(connection: &mut Connection, from: u32) -> Result<(), Error> {
    let tx = connection.transaction()?;
    for step in MIGRATIONS.iter().skip(from as usize) {
        tx.execute_batch(step)?;
    }
    tx.pragma_update(None, "user_version", VERSION)?;
    tx.commit()
}
