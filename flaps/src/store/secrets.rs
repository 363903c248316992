//! App secrets: values that reach an app's machines as environment.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};
use sha2::{Digest as _, Sha256};

use super::{Store, StoreError, timestamp};

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretRow {
    /// Environment name.
    pub name: String,
    /// The value in the clear.
    pub value: String,
    /// 16 hex digits that change with the value and reveal nothing of it (keyed by a key of this catalog).
    pub digest: String,
    /// When it was first set.
    pub created_at: jiff::Timestamp,
    /// When its value was last set.
    pub updated_at: jiff::Timestamp,
}

impl Store {
    /// Sets the secrets that have a value and removes those that have none, as one change. Returns the new version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_secrets(
        &self,
        app_id: i64,
        values: BTreeMap<String, Option<String>>,
        now: jiff::Timestamp,
    ) -> Result<u64, StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            let key: Vec<u8> =
                transaction.query_row("SELECT value FROM settings WHERE name = 'digest_key'", [], |row| row.get(0))?;
            for (name, value) in &values {
                match value {
                    Some(value) => set(&transaction, app_id, (name, value), &key, now)?,
                    None => {
                        transaction
                            .execute("DELETE FROM secrets WHERE app_id = ?1 AND name = ?2", params![app_id, name])?;
                    }
                }
            }
            let version: i64 = transaction.query_row(
                "UPDATE apps SET secrets_version = secrets_version + 1 WHERE id = ?1 RETURNING secrets_version",
                [app_id],
                |row| row.get(0),
            )?;
            transaction.commit()?;
            u64::try_from(version).map_err(|_| StoreError::Corrupt { field: "apps.secrets_version" })
        })
        .await
    }

    /// Lists an app's secrets by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn secrets(&self, app_id: i64) -> Result<Vec<SecretRow>, StoreError> {
        self.call(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT name, value, digest, created_at, updated_at FROM secrets WHERE app_id = ?1 ORDER BY name",
            )?;
            let rows = statement.query_map([app_id], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get::<_, String>(3)?, row.get::<_, String>(4)?))
            })?;
            rows.map(|row| {
                let (name, value, digest, created_at, updated_at) = row?;
                Ok(SecretRow {
                    name,
                    value,
                    digest,
                    created_at: timestamp("secrets.created_at", &created_at)?,
                    updated_at: timestamp("secrets.updated_at", &updated_at)?,
                })
            })
            .collect()
        })
        .await
    }
}

fn set(
    connection: &Connection,
    app_id: i64,
    (name, value): (&str, &str),
    key: &[u8],
    now: jiff::Timestamp,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT INTO secrets (app_id, name, value, digest, created_at, updated_at) VALUES (?1, ?2, ?3, ?4, ?5, ?5)
         ON CONFLICT (app_id, name) DO UPDATE SET value = ?3, digest = ?4, updated_at = ?5",
        params![app_id, name, value, digest(key, name, value), now.to_string()],
    )?;
    Ok(())
}

fn digest(key: &[u8], name: &str, value: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(key);
    hasher.update(name.as_bytes());
    hasher.update([0]);
    hasher.update(value.as_bytes());
    hex::encode(&hasher.finalize()[..8])
}
