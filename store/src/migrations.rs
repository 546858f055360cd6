//! The tables and their versions.

use std::path::Path;

use sqlx::{Connection, SqliteConnection};

use crate::{StoreError, now_ms};

/// A change of the tables. Never edited once it was released.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// In the order of their versions, without gaps.
const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "tasks_files_modules",
    sql: include_str!("../../migrations/sqlite/0001_tasks_files_modules.sql"),
}];

const ATTEMPT: &str = "migrating the database";

/// Brings the tables up to date, whole or not at all, also when several processes start at once.
pub(crate) async fn apply(
    connection: &mut SqliteConnection,
    path: &Path,
) -> Result<(), StoreError> {
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if has_table(connection).await? && check(version(connection).await?, known, path)? {
        return Ok(());
    }
    let sql = |source| StoreError::sql(ATTEMPT, source);
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(sql)?;
    create_table(&mut transaction).await?;
    let found = version(&mut transaction).await?;
    check(found, known, path)?;
    for migration in MIGRATIONS.iter().filter(|m| m.version > found) {
        let attempt = || format!("{ATTEMPT} to version {}", migration.version);
        sqlx::raw_sql(migration.sql)
            .execute(&mut *transaction)
            .await
            .map_err(|source| StoreError::sql(attempt(), source))?;
        record(&mut transaction, migration).await?;
    }
    transaction.commit().await.map_err(sql)
}

/// Whether nothing is left to do.
fn check(found: i64, known: i64, path: &Path) -> Result<bool, StoreError> {
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_owned(),
            found,
            known,
        });
    }
    Ok(found == known)
}

async fn has_table(connection: &mut SqliteConnection) -> Result<bool, StoreError> {
    sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'runner_migrations')",
    )
    .fetch_one(connection)
    .await
    .map_err(|source| StoreError::sql(ATTEMPT, source))
}

async fn create_table(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS runner_migrations \
         (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
    )
    .execute(connection)
    .await
    .map(drop)
    .map_err(|source| StoreError::sql(ATTEMPT, source))
}

async fn version(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    sqlx::query_scalar("SELECT coalesce(max(version), 0) FROM runner_migrations")
        .fetch_one(connection)
        .await
        .map_err(|source| StoreError::sql(ATTEMPT, source))
}

async fn record(
    connection: &mut SqliteConnection,
    migration: &Migration,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO runner_migrations (version, name, applied_at) VALUES (?1, ?2, ?3)")
        .bind(migration.version)
        .bind(migration.name)
        .bind(now_ms())
        .execute(connection)
        .await
        .map(drop)
        .map_err(|source| StoreError::sql(ATTEMPT, source))
}
