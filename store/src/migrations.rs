//! The tables and their versions.
//!
//! The three dialects count alike: what has one version has the same tables everywhere. PostgreSQL and MySQL begin
//! with version 2.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::deliveries::webhook_digest;
use crate::sql::{Ask, Connection, Database, Dialect, Statement, args, first_column};
use crate::{DatabaseUrl, Durability, StoreError, now_ms};

/// A change of the tables. Never edited once it was released.
struct Migration {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// In the order of their versions.
const SQLITE: &[Migration] = &[
    Migration {
        version: 1,
        name: "tasks_files_modules",
        sql: include_str!("../../migrations/sqlite/0001_tasks_files_modules.sql"),
    },
    Migration {
        version: 2,
        name: "servers_and_queues",
        sql: include_str!("../../migrations/sqlite/0002_servers_and_queues.sql"),
    },
    Migration {
        version: 3,
        name: "schedules",
        sql: include_str!("../../migrations/sqlite/0003_schedules.sql"),
    },
    Migration {
        version: 6,
        name: "links",
        sql: include_str!("../../migrations/sqlite/0006_links.sql"),
    },
    Migration {
        version: 7,
        name: "short_texts",
        sql: include_str!("../../migrations/sqlite/0007_short_texts.sql"),
    },
    Migration {
        version: 8,
        name: "digests",
        sql: include_str!("../../migrations/sqlite/0008_digests.sql"),
    },
    Migration {
        version: 9,
        name: "wanted_modules",
        sql: include_str!("../../migrations/sqlite/0009_wanted_modules.sql"),
    },
    Migration {
        version: 10,
        name: "pipelines",
        sql: include_str!("../../migrations/sqlite/0010_pipelines.sql"),
    },
    Migration {
        version: 11,
        name: "permalinks",
        sql: include_str!("../../migrations/sqlite/0011_permalinks.sql"),
    },
];

const POSTGRES: &[Migration] = &[
    Migration {
        version: 2,
        name: "tables",
        sql: include_str!("../../migrations/postgres/0002_tables.sql"),
    },
    Migration {
        version: 3,
        name: "schedules",
        sql: include_str!("../../migrations/postgres/0003_schedules.sql"),
    },
    Migration {
        version: 6,
        name: "links",
        sql: include_str!("../../migrations/postgres/0006_links.sql"),
    },
    Migration {
        version: 7,
        name: "short_texts",
        sql: include_str!("../../migrations/postgres/0007_short_texts.sql"),
    },
    Migration {
        version: 8,
        name: "digests",
        sql: include_str!("../../migrations/postgres/0008_digests.sql"),
    },
    Migration {
        version: 9,
        name: "wanted_modules",
        sql: include_str!("../../migrations/postgres/0009_wanted_modules.sql"),
    },
    Migration {
        version: 10,
        name: "pipelines",
        sql: include_str!("../../migrations/postgres/0010_pipelines.sql"),
    },
    Migration {
        version: 11,
        name: "permalinks",
        sql: include_str!("../../migrations/postgres/0011_permalinks.sql"),
    },
];

const MYSQL: &[Migration] = &[
    Migration {
        version: 2,
        name: "tables",
        sql: include_str!("../../migrations/mysql/0002_tables.sql"),
    },
    Migration {
        version: 3,
        name: "schedules",
        sql: include_str!("../../migrations/mysql/0003_schedules.sql"),
    },
    Migration {
        version: 6,
        name: "links",
        sql: include_str!("../../migrations/mysql/0006_links.sql"),
    },
    Migration {
        version: 7,
        name: "short_texts",
        sql: include_str!("../../migrations/mysql/0007_short_texts.sql"),
    },
    Migration {
        version: 8,
        name: "digests",
        sql: include_str!("../../migrations/mysql/0008_digests.sql"),
    },
    Migration {
        version: 9,
        name: "wanted_modules",
        sql: include_str!("../../migrations/mysql/0009_wanted_modules.sql"),
    },
    Migration {
        version: 10,
        name: "pipelines",
        sql: include_str!("../../migrations/mysql/0010_pipelines.sql"),
    },
    Migration {
        version: 11,
        name: "permalinks",
        sql: include_str!("../../migrations/mysql/0011_permalinks.sql"),
    },
];

/// The version of SQLite's tables that has digests of webhooks, which SQL cannot compute there.
const DIGESTS_SINCE: i64 = 2;

/// All tables, those that name others first.
const TABLES: &[&str] = &[
    "task_labels",
    "task_log",
    "pipelines",
    "files",
    "subscriptions",
    "deliveries",
    "tasks",
    "descriptions",
    "file_digests",
    "workers",
    "queues",
    "file_stores",
    "schedules",
    "housekeeping",
    "modules",
    "module_generations",
    "permalinks",
    "runner_migrations",
];

/// Whom a migration excludes: others that migrate the same database. Any number will do, as long as it stays.
const LOCK: &str = "runner_migrations";
/// How long one migration waits for another.
const LOCK_LIMIT: Duration = Duration::from_secs(300);
/// How long MySQL waits for the lock before it is asked again: less than a statement may take.
const LOCK_PAUSE_SECONDS: i64 = 20;

const ATTEMPT: &str = "migrating the database";

/// A change of the tables, and whether a database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationStatus {
    /// Its version.
    pub version: i64,
    /// What it is about.
    pub name: String,
    /// When it was applied, in milliseconds since 1970 (UTC); None: it was not yet.
    pub applied_at: Option<i64>,
}

/// Brings the tables of a database up to date, whole or not at all. Opening a store does it too.
///
/// # Errors
/// What failed, or that the database was made by a newer runner.
pub async fn migrate(url: &DatabaseUrl) -> Result<(), StoreError> {
    let database = Database::new(url, Durability::Power);
    let mut connection = database.open().await?;
    let outcome = apply(&mut connection, url).await;
    let _closed = connection.close().await;
    outcome
}

/// The changes that a database has or is to have, in the order of their versions. Those that only a newer runner
/// knows are among them. The database is not changed.
///
/// # Errors
/// What could not be read.
pub async fn migration_status(url: &DatabaseUrl) -> Result<Vec<MigrationStatus>, StoreError> {
    let known = known(url.dialect()).iter().map(|known| MigrationStatus {
        version: known.version,
        name: known.name.to_owned(),
        applied_at: None,
    });
    let mut all: Vec<_> = known.collect();
    if url.file().is_some_and(|file| !file.exists()) {
        return Ok(all);
    }
    let mut connection = Database::new(url, Durability::Power).open().await?;
    if has_table(&mut connection).await? {
        let failed = |source| StoreError::sql("reading the applied migrations", source);
        for row in connection.rows(&APPLIED, args![]).await.map_err(failed)? {
            let version: i64 = row.get(0).map_err(failed)?;
            all.retain(|known| known.version != version);
            all.push(MigrationStatus {
                version,
                name: row.get(1).map_err(failed)?,
                applied_at: row.get(2).map_err(failed)?,
            });
        }
    }
    let _closed = connection.close().await;
    all.sort_by_key(|migration| migration.version);
    Ok(all)
}

/// Removes all tables of the runner with what is in them, and nothing else of the database. Content of files stays
/// in the file store.
///
/// # Errors
/// What failed. On MySQL some tables may be gone then.
pub async fn drop_all(url: &DatabaseUrl) -> Result<(), StoreError> {
    let mut connection = Database::new(url, Durability::Power).open().await?;
    let outcome = locked(&mut connection, url, Job::Drop).await;
    let _closed = connection.close().await;
    outcome
}

fn known(dialect: Dialect) -> &'static [Migration] {
    match dialect {
        Dialect::Sqlite => SQLITE,
        Dialect::Postgres => POSTGRES,
        Dialect::Mysql => MYSQL,
    }
}

/// Brings the tables up to date, whole or not at all, also when several processes start at once.
pub(crate) async fn apply(
    connection: &mut Connection,
    url: &DatabaseUrl,
) -> Result<(), StoreError> {
    let newest = known(connection.dialect()).last().map_or(0, |m| m.version);
    if has_table(connection).await? && check(version(connection).await?, newest, url)? {
        return Ok(());
    }
    locked(connection, url, Job::Migrate).await
}

/// Whether nothing is left to do.
fn check(found: i64, known: i64, url: &DatabaseUrl) -> Result<bool, StoreError> {
    if found > known {
        return Err(StoreError::Newer {
            database: url.to_string(),
            found,
            known,
        });
    }
    Ok(found == known)
}

/// What is done while nobody else migrates.
#[derive(Clone, Copy)]
enum Job {
    Migrate,
    Drop,
}

async fn locked(
    connection: &mut Connection,
    url: &DatabaseUrl,
    job: Job,
) -> Result<(), StoreError> {
    match connection.dialect() {
        Dialect::Sqlite => {
            // Tables are made anew, which is no reason to remove what names them.
            run(connection, "PRAGMA foreign_keys = OFF").await?;
            run(connection, "BEGIN IMMEDIATE").await?;
            let outcome = transaction(connection, url, job).await;
            run(connection, "PRAGMA foreign_keys = ON").await?;
            outcome
        }
        Dialect::Postgres => {
            run(connection, "BEGIN").await?;
            run(connection, "SET LOCAL lock_timeout = '300s'").await?;
            let locked = connection.row(&LOCK_POSTGRES, args![LOCK]).await;
            locked.map_err(|source| StoreError::sql("waiting for another migration", source))?;
            transaction(connection, url, job).await
        }
        Dialect::Mysql => {
            lock_mysql(connection).await?;
            let outcome = job.work(connection, url).await;
            let released = connection.row(&UNLOCK_MYSQL, args![LOCK]).await;
            outcome.and(released.map(drop).map_err(failed))
        }
    }
}

static LOCK_POSTGRES: Statement = Statement::new(
    "SELECT pg_advisory_xact_lock(hashtext(?1), hashtext(current_schema())) IS NULL",
);
static LOCK_MYSQL: Statement =
    Statement::new("SELECT get_lock(concat(?1, '.', left(sha2(database(), 256), 32)), ?2) = 1");
static UNLOCK_MYSQL: Statement =
    Statement::new("SELECT release_lock(concat(?1, '.', left(sha2(database(), 256), 32)))");

async fn lock_mysql(connection: &mut Connection) -> Result<(), StoreError> {
    let begin = Instant::now();
    loop {
        let row = connection
            .row(&LOCK_MYSQL, args![LOCK, LOCK_PAUSE_SECONDS])
            .await;
        let row = row.map_err(failed)?;
        let is_ours = row.map_or(Ok(false), |row| row.get(0)).map_err(failed)?;
        if is_ours {
            return Ok(());
        }
        if begin.elapsed() > LOCK_LIMIT {
            return Err(StoreError::sql(
                "waiting for another migration",
                crate::sql::timed_out(LOCK_LIMIT),
            ));
        }
    }
}

async fn transaction(
    connection: &mut Connection,
    url: &DatabaseUrl,
    job: Job,
) -> Result<(), StoreError> {
    let outcome = job.work(connection, url).await;
    match outcome {
        Ok(()) => run(connection, "COMMIT").await,
        Err(error) => {
            let _rolled_back = connection.run("ROLLBACK").await;
            Err(error)
        }
    }
}

impl Job {
    async fn work(self, connection: &mut Connection, url: &DatabaseUrl) -> Result<(), StoreError> {
        match self {
            Self::Migrate => migrate_locked(connection, url).await,
            Self::Drop => drop_locked(connection).await,
        }
    }
}

async fn migrate_locked(connection: &mut Connection, url: &DatabaseUrl) -> Result<(), StoreError> {
    let dialect = connection.dialect();
    connection
        .execute(&CREATE_TABLE, args![])
        .await
        .map_err(failed)?;
    let found = version(connection).await?;
    let known = known(dialect);
    check(found, known.last().map_or(0, |m| m.version), url)?;
    for migration in known.iter().filter(|m| m.version > found) {
        if dialect == Dialect::Sqlite && migration.version == DIGESTS_SINCE {
            digest_webhooks(connection).await?;
        }
        connection.run(migration.sql).await.map_err(|source| {
            let attempt = format!("{ATTEMPT} to version {}", migration.version);
            StoreError::sql(attempt, source)
        })?;
        let args = args![migration.version, migration.name, now_ms()];
        connection.execute(&RECORD, args).await.map_err(failed)?;
    }
    Ok(())
}

async fn drop_locked(connection: &mut Connection) -> Result<(), StoreError> {
    for table in TABLES {
        let statement = Statement::once(format!("DROP TABLE IF EXISTS {table}"));
        let dropped = connection.execute(&statement, args![]).await;
        dropped.map_err(|source| StoreError::sql(format!("removing the table {table}"), source))?;
    }
    Ok(())
}

static WEBHOOKS: Statement =
    Statement::new("SELECT webhook FROM subscriptions UNION SELECT webhook FROM deliveries");
static PUT_DIGEST: Statement =
    Statement::new("INSERT INTO temp.webhook_digests (webhook, digest) VALUES (?1, ?2)");

/// Makes the temporary table with which version 2 fills in digests.
async fn digest_webhooks(connection: &mut Connection) -> Result<(), StoreError> {
    let rows = connection.rows(&WEBHOOKS, args![]).await;
    let webhooks = rows.and_then(|rows| first_column::<String>(&rows));
    let webhooks: BTreeSet<_> = webhooks.map_err(failed)?.into_iter().collect();
    run(
        connection,
        "CREATE TEMP TABLE webhook_digests (webhook TEXT PRIMARY KEY, digest TEXT NOT NULL)",
    )
    .await?;
    for webhook in &webhooks {
        let args = args![webhook, webhook_digest(webhook)];
        connection
            .execute(&PUT_DIGEST, args)
            .await
            .map_err(failed)?;
    }
    Ok(())
}

fn failed(source: sqlx::Error) -> StoreError {
    StoreError::sql(ATTEMPT, source)
}

async fn run(connection: &mut Connection, sql: &'static str) -> Result<(), StoreError> {
    connection.run(sql).await.map_err(failed)
}

static HAS_TABLE: Statement =
    Statement::new("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'runner_migrations')")
        .postgres("SELECT to_regclass('runner_migrations') IS NOT NULL")
        .mysql(
            "SELECT EXISTS (SELECT 1 FROM information_schema.tables \
     WHERE table_schema = database() AND table_name = 'runner_migrations')",
        );

async fn has_table(connection: &mut Connection) -> Result<bool, StoreError> {
    let row = connection.row(&HAS_TABLE, args![]).await;
    row.and_then(|row| row.map_or(Ok(false), |row| row.get(0)))
        .map_err(failed)
}

static CREATE_TABLE: Statement = Statement::new(
    "CREATE TABLE IF NOT EXISTS runner_migrations \
     (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT",
)
.postgres(
    "CREATE TABLE IF NOT EXISTS runner_migrations \
     (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
)
.mysql(
    "CREATE TABLE IF NOT EXISTS runner_migrations \
     (version BIGINT NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, applied_at BIGINT NOT NULL) \
     ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin",
);

static VERSION: Statement =
    Statement::new("SELECT coalesce(max(version), 0) FROM runner_migrations");

async fn version(connection: &mut Connection) -> Result<i64, StoreError> {
    let row = connection.row(&VERSION, args![]).await;
    row.and_then(|row| row.map_or(Ok(0), |row| row.get(0)))
        .map_err(failed)
}

static APPLIED: Statement =
    Statement::new("SELECT version, name, applied_at FROM runner_migrations");

static RECORD: Statement =
    Statement::new("INSERT INTO runner_migrations (version, name, applied_at) VALUES (?1, ?2, ?3)");
