use jiff::Timestamp;
use operation::{Fault, OperationId, Record, Status};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::CatalogError;
use crate::snapshot::{Snapshot, SnapshotState};
use crate::volume::{SnapshotId, Volume, VolumeId, VolumeState};

/// One transaction; everything it does commits together or not at all.
#[derive(Debug)]
pub struct Tx<'a> {
    tx: &'a Transaction<'a>,
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Event {
    /// Grows by at least 1 with each event.
    pub seq: i64,
    /// When.
    pub at: Timestamp,
    /// The volume or snapshot it happened to.
    pub subject: String,
    /// One word.
    pub kind: String,
    /// A sentence.
    pub message: String,
}

/// An event to be kept.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// When.
    pub at: Timestamp,
    /// The volume or snapshot it happened to.
    pub subject: String,
    /// One word.
    pub kind: &'static str,
    /// A sentence.
    pub message: String,
}

/// An operation with the time of its last change.
#[derive(Clone, Debug)]
pub struct OperationRow {
    /// The record.
    pub record: Record,
    /// When it last changed.
    pub at: Timestamp,
}

fn doing(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> CatalogError {
    move |source| CatalogError::Sqlite { doing, source }
}

fn encode<T: Serialize>(table: &'static str, id: &str, value: &T) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|source| CatalogError::Damaged {
        table,
        id: id.to_owned(),
        source,
    })
}

fn decode<T: DeserializeOwned>(table: &'static str, (id, doc): (String, String)) -> Result<T, CatalogError> {
    serde_json::from_str(&doc).map_err(|source| CatalogError::Damaged { table, id, source })
}

fn id_and_doc(row: &Row<'_>) -> rusqlite::Result<(String, String)> {
    Ok((row.get(0)?, row.get(1)?))
}

impl<'a> Tx<'a> {
    pub(super) fn new(tx: &'a Transaction<'a>) -> Self {
        Self { tx }
    }

    fn docs<T: DeserializeOwned>(
        &self,
        table: &'static str,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<Vec<T>, CatalogError> {
        let mut statement = self.tx.prepare_cached(sql).map_err(doing("prepare"))?;
        let rows = statement.query_map(params, id_and_doc).map_err(doing("query"))?;
        rows.map(|row| decode(table, row.map_err(doing("read row"))?))
            .collect()
    }

    fn execute(
        &self,
        what: &'static str,
        sql: &str,
        params: impl rusqlite::Params,
    ) -> Result<usize, CatalogError> {
        let mut statement = self.tx.prepare_cached(sql).map_err(doing("prepare"))?;
        statement.execute(params).map_err(doing(what))
    }

    fn next_seq(&self) -> Result<i64, CatalogError> {
        let sql = "UPDATE counters SET value = value + 1 WHERE name = 'seq' RETURNING value";
        self.tx
            .query_row(sql, [], |row| row.get(0))
            .map_err(doing("count"))
    }

    /// Returns a volume, destroyed ones too.
    pub fn volume(&self, id: &VolumeId) -> Result<Option<Volume>, CatalogError> {
        let sql = "SELECT id, doc FROM volumes WHERE id = ?1";
        Ok(self.docs("volumes", sql, [id.as_str()])?.into_iter().next())
    }

    /// Returns every volume in the order of creation, destroyed ones too.
    pub fn volumes(&self) -> Result<Vec<Volume>, CatalogError> {
        self.docs("volumes", "SELECT id, doc FROM volumes ORDER BY seq", [])
    }

    /// Returns every volume that has not ended, in the order of creation.
    pub fn existing_volumes(&self) -> Result<Vec<Volume>, CatalogError> {
        let sql = "SELECT id, doc FROM volumes WHERE state <> ?1 ORDER BY seq";
        self.docs("volumes", sql, [VolumeState::Destroyed.name()])
    }

    /// Keeps a volume, new or changed.
    pub fn put_volume(&self, volume: &Volume) -> Result<(), CatalogError> {
        let (id, doc) = (volume.id.as_str(), encode("volumes", volume.id.as_str(), volume)?);
        let update = "UPDATE volumes SET state = ?2, doc = ?3 WHERE id = ?1";
        if self.execute("update volume", update, params![id, volume.state.name(), doc])? == 0 {
            let seq = self.next_seq()?;
            let insert = "INSERT INTO volumes (id, app, state, seq, doc) VALUES (?1, ?2, ?3, ?4, ?5)";
            self.execute(
                "insert volume",
                insert,
                params![id, volume.app, volume.state.name(), seq, doc],
            )?;
        }
        Ok(())
    }

    /// Changes a volume in place and returns it.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] when there is none.
    pub fn edit_volume(&self, id: &VolumeId, edit: impl FnOnce(&mut Volume)) -> Result<Volume, CatalogError> {
        let mut volume = self
            .volume(id)?
            .ok_or_else(|| CatalogError::Missing { id: id.to_string() })?;
        edit(&mut volume);
        self.put_volume(&volume)?;
        Ok(volume)
    }

    /// Returns a snapshot, deleted ones too.
    pub fn snapshot(&self, id: &SnapshotId) -> Result<Option<Snapshot>, CatalogError> {
        let sql = "SELECT id, doc FROM snapshots WHERE id = ?1";
        Ok(self.docs("snapshots", sql, [id.as_str()])?.into_iter().next())
    }

    /// Returns every snapshot that is not deleted, oldest point in time first.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>, CatalogError> {
        let sql = "SELECT id, doc FROM snapshots WHERE state <> ?1 ORDER BY seq";
        self.docs("snapshots", sql, [SnapshotState::Deleted.name()])
            .map(oldest_first)
    }

    /// Returns a volume's snapshots that are not deleted, oldest point in time first.
    pub fn snapshots_of(&self, volume: &VolumeId) -> Result<Vec<Snapshot>, CatalogError> {
        let sql = "SELECT id, doc FROM snapshots WHERE volume_id = ?1 AND state <> ?2 ORDER BY seq";
        let params = params![volume.as_str(), SnapshotState::Deleted.name()];
        self.docs("snapshots", sql, params).map(oldest_first)
    }

    /// Keeps a snapshot, new or changed.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), CatalogError> {
        let (id, doc) = (
            snapshot.id.as_str(),
            encode("snapshots", snapshot.id.as_str(), snapshot)?,
        );
        let state = snapshot.state.name();
        let update = "UPDATE snapshots SET state = ?2, doc = ?3 WHERE id = ?1";
        if self.execute("update snapshot", update, params![id, state, doc])? == 0 {
            let insert =
                "INSERT INTO snapshots (id, volume_id, app, state, seq, doc) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
            let seq = self.next_seq()?;
            let params = params![id, snapshot.volume_id.as_str(), snapshot.app, state, seq, doc];
            self.execute("insert snapshot", insert, params)?;
        }
        Ok(())
    }

    /// Changes a snapshot in place and returns it.
    ///
    /// # Errors
    /// [`CatalogError::Missing`] when there is none.
    pub fn edit_snapshot(
        &self,
        id: &SnapshotId,
        edit: impl FnOnce(&mut Snapshot),
    ) -> Result<Snapshot, CatalogError> {
        let mut snapshot = self
            .snapshot(id)?
            .ok_or_else(|| CatalogError::Missing { id: id.to_string() })?;
        edit(&mut snapshot);
        self.put_snapshot(&snapshot)?;
        Ok(snapshot)
    }

    /// Returns an operation, ended ones too.
    pub(super) fn operation(&self, id: &str) -> Result<Option<Record>, CatalogError> {
        let sql = "SELECT id, doc FROM operations WHERE id = ?1";
        Ok(self.docs("operations", sql, [id])?.into_iter().next())
    }

    /// Returns the operation of a subject that has not ended.
    pub fn running_operation(&self, subject: &str) -> Result<Option<Record>, CatalogError> {
        let sql = "SELECT id, doc FROM operations WHERE subject = ?1 AND ended = 0";
        Ok(self.docs("operations", sql, [subject])?.into_iter().next())
    }

    /// Returns every operation that has not ended, oldest first.
    pub fn running_operations(&self) -> Result<Vec<Record>, CatalogError> {
        self.docs(
            "operations",
            "SELECT id, doc FROM operations WHERE ended = 0 ORDER BY seq",
            [],
        )
    }

    /// Returns the newest operations, of one subject or of all, newest first.
    pub fn operations(&self, subject: Option<&str>, limit: u32) -> Result<Vec<OperationRow>, CatalogError> {
        let sql =
            "SELECT id, doc, at FROM operations WHERE ?1 IS NULL OR subject = ?1 ORDER BY seq DESC LIMIT ?2";
        let mut statement = self.tx.prepare_cached(sql).map_err(doing("prepare"))?;
        let rows = statement
            .query_map(params![subject, limit], |row| {
                Ok((id_and_doc(row)?, row.get::<_, String>(2)?))
            })
            .map_err(doing("query"))?;
        rows.map(|row| {
            let (doc, at) = row.map_err(doing("read row"))?;
            Ok(OperationRow {
                record: decode("operations", doc)?,
                at: timestamp(&at),
            })
        })
        .collect()
    }

    /// Keeps a new operation.
    pub(super) fn insert_operation(&self, record: &Record, at: Timestamp) -> Result<(), CatalogError> {
        let doc = encode("operations", record.id.as_str(), record)?;
        let sql = "INSERT INTO operations (id, subject, kind, ended, at, doc) VALUES (?1, ?2, ?3, 0, ?4, ?5)";
        let params = params![
            record.id.as_str(),
            record.subject,
            record.kind,
            at.to_string(),
            doc
        ];
        self.execute("insert operation", sql, params).map(drop)
    }

    /// Keeps what an operation has come to.
    pub(super) fn update_operation(&self, record: &Record, at: Timestamp) -> Result<(), CatalogError> {
        let doc = encode("operations", record.id.as_str(), record)?;
        let sql = "UPDATE operations SET ended = ?2, at = ?3, doc = ?4 WHERE id = ?1";
        let params = params![record.id.as_str(), record.status.ended(), at.to_string(), doc];
        match self.execute("update operation", sql, params)? {
            0 => Err(CatalogError::Missing {
                id: record.id.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Ends an operation where it stands: no step of it runs any more, nothing is undone. Only before operations are
    /// resumed; whoever runs it would not hear of it.
    pub fn abandon_operation(&self, id: &OperationId, why: &str, at: Timestamp) -> Result<(), CatalogError> {
        let Some(mut record) = self.operation(id.as_str())? else {
            return Ok(());
        };
        record.status = Status::Aborted {
            fault: Fault::System,
            why: why.to_owned(),
        };
        self.update_operation(&record, at)
    }

    /// Forgets a snapshot, so that a listing of the bucket finds it if it is there.
    pub fn forget_snapshot(&self, id: &SnapshotId) -> Result<(), CatalogError> {
        self.execute(
            "forget snapshot",
            "DELETE FROM snapshots WHERE id = ?1",
            [id.as_str()],
        )
        .map(drop)
    }

    /// Forgets the snapshots that a volume's disk keeps itself: they went with it.
    pub fn forget_snapshots_in_disk(&self, volume: &VolumeId) -> Result<(), CatalogError> {
        let kept = self.snapshots_of(volume)?;
        kept.iter()
            .filter(|snapshot| snapshot.in_disk)
            .try_for_each(|snapshot| self.forget_snapshot(&snapshot.id))
    }

    /// Forgets ended operations and events beyond the newest `keep` of each.
    pub fn trim_history(&self, keep: u32) -> Result<(), CatalogError> {
        let operations =
            "DELETE FROM operations WHERE ended = 1 AND seq <= (SELECT max(seq) FROM operations) - ?1";
        self.execute("trim operations", operations, [keep])?;
        let events = "DELETE FROM events WHERE seq <= (SELECT max(seq) FROM events) - ?1";
        self.execute("trim events", events, [keep]).map(drop)
    }

    /// Keeps an event.
    pub fn event(&self, event: &NewEvent) -> Result<(), CatalogError> {
        let sql = "INSERT INTO events (at, subject, kind, message) VALUES (?1, ?2, ?3, ?4)";
        let params = params![event.at.to_string(), event.subject, event.kind, event.message];
        self.execute("insert event", sql, params).map(drop)
    }

    /// Returns events after the number `after`, oldest first.
    pub fn events(&self, after: i64, limit: u32) -> Result<Vec<Event>, CatalogError> {
        let sql = "SELECT seq, at, subject, kind, message FROM events WHERE seq > ?1 ORDER BY seq LIMIT ?2";
        let mut statement = self.tx.prepare_cached(sql).map_err(doing("prepare"))?;
        let rows = statement
            .query_map(params![after, limit], |row| {
                let at: String = row.get(1)?;
                Ok(Event {
                    seq: row.get(0)?,
                    at: timestamp(&at),
                    subject: row.get(2)?,
                    kind: row.get(3)?,
                    message: row.get(4)?,
                })
            })
            .map_err(doing("query"))?;
        rows.map(|row| row.map_err(doing("read row"))).collect()
    }

    /// Returns the volume that an earlier create request with this key made, with the request's fingerprint.
    pub fn earlier_request(&self, app: &str, key: &str) -> Result<Option<(VolumeId, String)>, CatalogError> {
        let sql = "SELECT volume_id, fingerprint FROM requests WHERE app = ?1 AND key = ?2";
        let row: Option<(String, String)> = self
            .tx
            .query_row(sql, [app, key], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()
            .map_err(doing("look up request"))?;
        Ok(row.and_then(|(id, fingerprint)| Some((VolumeId::parse(&id).ok()?, fingerprint))))
    }

    /// Remembers a create request by its key.
    pub fn remember_request(
        &self,
        app: &str,
        key: &str,
        volume: &VolumeId,
        fingerprint: &str,
    ) -> Result<(), CatalogError> {
        let sql =
            "INSERT OR REPLACE INTO requests (app, key, volume_id, fingerprint) VALUES (?1, ?2, ?3, ?4)";
        self.execute(
            "remember request",
            sql,
            params![app, key, volume.as_str(), fingerprint],
        )
        .map(drop)
    }

    /// Returns a setting.
    pub fn setting(&self, name: &str) -> Result<Option<String>, CatalogError> {
        let sql = "SELECT value FROM settings WHERE name = ?1";
        self.tx
            .query_row(sql, [name], |row| row.get(0))
            .optional()
            .map_err(doing("read setting"))
    }

    /// Keeps a setting.
    pub fn set_setting(&self, name: &str, value: &str) -> Result<(), CatalogError> {
        let sql = "INSERT INTO settings VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = ?2";
        self.execute("write setting", sql, [name, value]).map(drop)
    }
}

fn oldest_first(mut snapshots: Vec<Snapshot>) -> Vec<Snapshot> {
    snapshots.sort_by_key(|s| s.created_at);
    snapshots
}

fn timestamp(text: &str) -> Timestamp {
    text.parse().unwrap_or(Timestamp::UNIX_EPOCH)
}
