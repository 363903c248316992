//! Reads and writes of single tables, each within the caller's transaction.

use rusqlite::{OptionalExtension as _, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{CatalogError, Change};
use crate::ids::MachineId;
use crate::lease::Lease;
use crate::record::{Event, MachineRecord, Version};

/// Events kept of one machine; older ones are forgotten.
const EVENTS_KEPT: i64 = 500;

fn encode(what: &str, value: &impl Serialize) -> Result<String, CatalogError> {
    serde_json::to_string(value).map_err(|source| CatalogError::Row {
        what: what.to_owned(),
        source,
    })
}

fn decode<T: DeserializeOwned>(what: &str, text: &str) -> Result<T, CatalogError> {
    serde_json::from_str(text).map_err(|source| CatalogError::Row {
        what: what.to_owned(),
        source,
    })
}

pub(super) fn apply(
    transaction: &Transaction<'_>,
    id: &MachineId,
    change: &Change,
) -> Result<(), CatalogError> {
    if let Some(record) = &change.machine {
        transaction.execute(
            "INSERT INTO machines (id, app, record) VALUES (?1, ?2, ?3)
             ON CONFLICT (id) DO UPDATE SET app = excluded.app, record = excluded.record",
            params![id.as_str(), record.app, encode(id.as_str(), record)?],
        )?;
    }
    for event in &change.events {
        transaction.execute(
            "INSERT INTO events (machine_id, event) VALUES (?1, ?2)",
            params![id.as_str(), encode(id.as_str(), event)?],
        )?;
    }
    if !change.events.is_empty() {
        transaction.execute(
            "DELETE FROM events WHERE machine_id = ?1 AND seq <= (
                SELECT seq FROM events WHERE machine_id = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
            params![id.as_str(), EVENTS_KEPT],
        )?;
    }
    if let Some(version) = &change.version {
        transaction.execute(
            "INSERT INTO versions (machine_id, version, user_config) VALUES (?1, ?2, ?3)",
            params![
                id.as_str(),
                version.version,
                encode(id.as_str(), &version.user_config)?
            ],
        )?;
    }
    Ok(())
}

pub(super) fn machines(transaction: &Transaction<'_>) -> Result<Vec<MachineRecord>, CatalogError> {
    let mut statement = transaction.prepare("SELECT id, record FROM machines ORDER BY rowid")?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    rows.map(|row| {
        let (id, record) = row?;
        decode(&id, &record)
    })
    .collect()
}

pub(super) fn events(
    transaction: &Transaction<'_>,
    id: &MachineId,
    limit: u32,
) -> Result<Vec<Event>, CatalogError> {
    let sql = "SELECT event FROM events WHERE machine_id = ?1 ORDER BY seq DESC LIMIT ?2";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map(params![id.as_str(), limit], |row| row.get::<_, String>(0))?;
    rows.map(|row| decode(id.as_str(), &row?)).collect()
}

pub(super) fn versions(transaction: &Transaction<'_>, id: &MachineId) -> Result<Vec<Version>, CatalogError> {
    let sql = "SELECT version, user_config FROM versions WHERE machine_id = ?1 ORDER BY seq DESC";
    let mut statement = transaction.prepare_cached(sql)?;
    let rows = statement.query_map([id.as_str()], |row| {
        Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        let (version, config) = row?;
        Ok(Version {
            user_config: decode(&version, &config)?,
            version,
        })
    })
    .collect()
}

pub(super) fn lease(transaction: &Transaction<'_>, id: &MachineId) -> Result<Option<Lease>, CatalogError> {
    let sql = "SELECT lease FROM leases WHERE machine_id = ?1";
    let text: Option<String> = transaction
        .query_row(sql, [id.as_str()], |row| row.get(0))
        .optional()?;
    text.map(|text| decode(id.as_str(), &text)).transpose()
}

pub(super) fn set_lease(
    transaction: &Transaction<'_>,
    id: &MachineId,
    lease: Option<&Lease>,
) -> Result<(), CatalogError> {
    match lease {
        Some(lease) => transaction.execute(
            "INSERT INTO leases (machine_id, lease) VALUES (?1, ?2)
             ON CONFLICT (machine_id) DO UPDATE SET lease = excluded.lease",
            params![id.as_str(), encode(id.as_str(), lease)?],
        )?,
        None => transaction.execute("DELETE FROM leases WHERE machine_id = ?1", [id.as_str()])?,
    };
    Ok(())
}

pub(super) fn network_number(transaction: &Transaction<'_>, name: &str) -> Result<u32, CatalogError> {
    transaction.execute(
        "INSERT INTO networks (name, number)
         VALUES (?1, (SELECT coalesce(max(number), 0) + 1 FROM networks)) ON CONFLICT (name) DO NOTHING",
        [name],
    )?;
    Ok(
        transaction.query_row("SELECT number FROM networks WHERE name = ?1", [name], |row| {
            row.get(0)
        })?,
    )
}
