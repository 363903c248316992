//! Organizations and apps.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, StoreError, timestamp};

/// One organization.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organization {
    /// Row id, the API's `internal_numeric_id`.
    pub id: i64,
    /// Its name in URLs.
    pub slug: String,
    /// Its name for people.
    pub name: String,
}

/// One app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppRow {
    /// Row id, the API's `internal_numeric_id`.
    pub id: i64,
    /// Its name, also its public id.
    pub name: String,
    /// The owner.
    pub organization: Organization,
    /// `default` or the custom network asked for.
    pub network: String,
    /// `postgres_cluster` or empty.
    pub app_role: String,
    /// When it was made.
    pub created_at: jiff::Timestamp,
    /// It is being destroyed; resumed until it is gone.
    pub deleting: bool,
    /// +1 at each change of its secrets.
    pub secrets_version: u64,
}

/// What makes an app.
#[derive(Debug, Clone)]
pub struct NewApp {
    /// Checked by the app-name rule.
    pub name: String,
    /// Row id of the owner.
    pub organization_id: i64,
    /// `default` or a custom name.
    pub network: String,
    /// `postgres_cluster` or empty.
    pub app_role: String,
    /// The client's key, if it gave one.
    pub idempotency_key: Option<String>,
}

/// What came of a creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreateApp {
    /// It is there, made now or earlier with the same key.
    Made(AppRow),
    /// Another app has the name.
    NameTaken,
    /// The key belongs to an app of another name.
    KeyReused {
        /// That app.
        other: String,
    },
}

const SELECT: &str =
    "SELECT apps.id, apps.name, network, app_role, created_at, deleting_at IS NOT NULL, secrets_version,
        organizations.id, slug, organizations.name
     FROM apps JOIN organizations ON organizations.id = organization_id";

impl Store {
    /// Makes the organization unless it is there, and returns it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ensure_organization(&self, slug: String) -> Result<Organization, StoreError> {
        self.call(move |connection| {
            connection.execute(
                "INSERT INTO organizations (slug, name) VALUES (?1, ?1) ON CONFLICT DO NOTHING",
                [&slug],
            )?;
            organization_by_slug(connection, &slug)?.ok_or(StoreError::Corrupt {
                field: "organizations.slug",
            })
        })
        .await
    }

    /// Looks an organization up.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn organization(&self, slug: String) -> Result<Option<Organization>, StoreError> {
        self.call(move |connection| organization_by_slug(connection, &slug))
            .await
    }

    /// Makes an app, or returns the one made earlier with the same idempotency key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn create_app(&self, new: NewApp, now: jiff::Timestamp) -> Result<CreateApp, StoreError> {
        self.call(move |connection| {
            let transaction = connection.transaction()?;
            if let Some(key) = &new.idempotency_key {
                let earlier: Option<String> = transaction
                    .query_row("SELECT name FROM apps WHERE idempotency_key = ?1", [key], |row| {
                        row.get(0)
                    })
                    .optional()?;
                match earlier {
                    Some(name) if name == new.name => {
                        return Ok(CreateApp::Made(existing(&transaction, &name)?));
                    }
                    Some(other) => return Ok(CreateApp::KeyReused { other }),
                    None => {}
                }
            }
            let inserted = transaction.execute(
                "INSERT INTO apps (name, organization_id, network, app_role, created_at, idempotency_key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (name) DO NOTHING",
                params![
                    new.name,
                    new.organization_id,
                    new.network,
                    new.app_role,
                    now.to_string(),
                    new.idempotency_key
                ],
            )?;
            if inserted == 0 {
                return Ok(CreateApp::NameTaken);
            }
            let row = existing(&transaction, &new.name)?;
            transaction.commit()?;
            Ok(CreateApp::Made(row))
        })
        .await
    }

    /// Looks an app up by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn app(&self, name: String) -> Result<Option<AppRow>, StoreError> {
        self.call(move |connection| by_name(connection, &name)).await
    }

    /// Lists the apps of an organization by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apps(&self, organization_id: i64) -> Result<Vec<AppRow>, StoreError> {
        self.call(move |connection| {
            let mut statement = connection
                .prepare_cached(&format!("{SELECT} WHERE organization_id = ?1 ORDER BY apps.name"))?;
            let rows = statement.query_map([organization_id], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Lists the apps whose destruction has begun and not ended.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn apps_deleting(&self) -> Result<Vec<AppRow>, StoreError> {
        self.call(|connection| {
            let mut statement =
                connection.prepare_cached(&format!("{SELECT} WHERE deleting_at IS NOT NULL"))?;
            let rows = statement.query_map([], |row| Ok(read(row)))?;
            rows.map(|row| row?).collect()
        })
        .await
    }

    /// Records that the app's destruction has begun; from here on it is only resumed.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn mark_app_deleting(&self, id: i64, now: jiff::Timestamp) -> Result<(), StoreError> {
        self.call(move |connection| {
            connection.execute(
                "UPDATE apps SET deleting_at = ?2 WHERE id = ?1 AND deleting_at IS NULL",
                params![id, now.to_string()],
            )?;
            Ok(())
        })
        .await
    }

    /// Removes the app with its secrets and tokens; its name is free again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_app(&self, id: i64) -> Result<(), StoreError> {
        self.call(move |connection| {
            connection.execute("DELETE FROM apps WHERE id = ?1", [id])?;
            Ok(())
        })
        .await
    }
}

fn organization_by_slug(connection: &Connection, slug: &str) -> Result<Option<Organization>, StoreError> {
    Ok(connection
        .query_row(
            "SELECT id, slug, name FROM organizations WHERE slug = ?1",
            [slug],
            |row| {
                Ok(Organization {
                    id: row.get(0)?,
                    slug: row.get(1)?,
                    name: row.get(2)?,
                })
            },
        )
        .optional()?)
}

fn existing(connection: &Connection, name: &str) -> Result<AppRow, StoreError> {
    by_name(connection, name)?.ok_or(StoreError::Corrupt { field: "apps.name" })
}

fn by_name(connection: &Connection, name: &str) -> Result<Option<AppRow>, StoreError> {
    connection
        .query_row(&format!("{SELECT} WHERE apps.name = ?1"), [name], |row| {
            Ok(read(row))
        })
        .optional()?
        .transpose()
}

fn read(row: &Row<'_>) -> Result<AppRow, StoreError> {
    let created_at: String = row.get(4)?;
    let secrets_version: i64 = row.get(6)?;
    Ok(AppRow {
        id: row.get(0)?,
        name: row.get(1)?,
        network: row.get(2)?,
        app_role: row.get(3)?,
        created_at: timestamp("apps.created_at", &created_at)?,
        deleting: row.get(5)?,
        secrets_version: u64::try_from(secrets_version).map_err(|_| StoreError::Corrupt {
            field: "apps.secrets_version",
        })?,
        organization: Organization {
            id: row.get(7)?,
            slug: row.get(8)?,
            name: row.get(9)?,
        },
    })
}
