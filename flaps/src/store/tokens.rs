//! Tokens, kept as hashes.

use rusqlite::params;

use super::{Store, StoreError, timestamp};
use crate::token::{Grant, TokenHash, TokenRow};

impl Store {
    /// Makes `hash` the one root token; an earlier one stops working.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_root_token(&self, hash: TokenHash, now: jiff::Timestamp) -> Result<(), StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            transaction.execute("DELETE FROM tokens WHERE app_id IS NULL AND hash <> ?1", [hash])?;
            transaction.execute(
                "INSERT INTO tokens (hash, created_at) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
                params![hash, now.to_string()],
            )?;
            transaction.commit()?;
            Ok(())
        })
        .await
    }

    /// Adds a token that is good for one app until it ends.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn add_app_token(
        &self,
        hash: TokenHash,
        app_id: i64,
        now: jiff::Timestamp,
        expires_at: Option<jiff::Timestamp>,
    ) -> Result<(), StoreError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO tokens (hash, app_id, created_at, expires_at) VALUES (?1, ?2, ?3, ?4)",
                params![hash, app_id, now.to_string(), expires_at.map(|at| at.to_string())],
            )?;
            Ok(())
        })
        .await
    }

    /// Lists all tokens, expired ones too.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, StoreError> {
        self.call(|connection| {
            let mut statement = connection.prepare_cached("SELECT hash, app_id, expires_at FROM tokens")?;
            let rows = statement.query_map([], |row| {
                Ok((
                    row.get::<_, TokenHash>(0)?,
                    row.get::<_, Option<i64>>(1)?,
                    row.get::<_, Option<String>>(2)?,
                ))
            })?;
            rows.map(|row| {
                let (hash, app_id, expires_at) = row?;
                Ok(TokenRow {
                    hash,
                    grant: app_id.map_or(Grant::Root, |app_id| Grant::App { app_id }),
                    expires_at: expires_at
                        .map(|text| timestamp("tokens.expires_at", &text))
                        .transpose()?,
                })
            })
            .collect()
        })
        .await
    }
}
