//! The tables, their versions, and what they have in common.

use std::collections::BTreeSet;

use runner_core::task::TaskState;
use runner_store::{
    DatabaseUrl, Store, StoreConfig, StoreError, drop_all, migrate, migration_status,
};
use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use crate::databases::{Database, On};
use crate::deliveries::LEASE;
use crate::{Fixture, config, new_task, run_write, succeeded};

on_each_database!(
    what_a_newer_runner_made_is_refused,
    migrations_that_begin_at_once_wait_for_each_other,
    tables_are_made_shown_and_removed,
);

/// A connection of the test's own.
pub(crate) enum Direct {
    Sqlite(rusqlite::Connection),
    Postgres(PgConnection),
    Mysql(MySqlConnection),
}

impl Direct {
    pub(crate) async fn new(url: &str) -> Self {
        match url.split(':').next().unwrap() {
            "sqlite" => {
                let path = url.trim_start_matches("sqlite:///");
                Self::Sqlite(rusqlite::Connection::open(path).unwrap())
            }
            "mysql" => Self::Mysql(MySqlConnection::connect(url).await.unwrap()),
            _ => Self::Postgres(PgConnection::connect(url).await.unwrap()),
        }
    }

    pub(crate) async fn run(&mut self, sql: &str) {
        let query = sqlx::raw_sql(AssertSqlSafe(sql));
        match self {
            Self::Sqlite(connection) => return connection.execute_batch(sql).unwrap(),
            Self::Postgres(connection) => query.execute(connection).await.map(drop),
            Self::Mysql(connection) => query.execute(connection).await.map(drop),
        }
        .unwrap();
    }

    /// Rows of one text.
    async fn texts(&mut self, sql: &str) -> BTreeSet<String> {
        let query = AssertSqlSafe(sql);
        let rows = match self {
            Self::Sqlite(connection) => {
                let mut query = connection.prepare(sql).unwrap();
                let rows = query.query_map([], |row| row.get(0)).unwrap();
                return rows.map(|text| text.unwrap()).collect();
            }
            Self::Postgres(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
            Self::Mysql(connection) => sqlx::query_scalar(query).fetch_all(connection).await,
        };
        let rows: Vec<String> = rows.unwrap();
        rows.into_iter().collect()
    }
}

async fn what_a_newer_runner_made_is_refused(on: On) {
    let fixture = Fixture::new(on).await;
    fixture.store.close().await;
    let status = migration_status(&fixture.config.database).await.unwrap();
    let newest = status.last().unwrap().version;
    let mut connection = Direct::new(fixture.url()).await;
    connection
        .run("INSERT INTO runner_migrations (version, name, applied_at) VALUES (99, 'later', 0)")
        .await;
    let error = Store::open(&fixture.config).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Newer { found: 99, known, .. } if known == newest
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("newer runner"), "{error}");
    let error = migrate(&fixture.config.database).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { .. }), "{error:?}");
    let status = migration_status(&fixture.config.database).await.unwrap();
    let last = status.last().unwrap();
    assert_eq!(
        (last.version, &*last.name, last.applied_at),
        (99, "later", Some(0))
    );
}

async fn migrations_that_begin_at_once_wait_for_each_other(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(on, folder.path()).await;
    let url = DatabaseUrl::parse(database.url()).unwrap();
    let migrations: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { migrate(&url).await })
        })
        .collect();
    for migration in migrations {
        migration.await.unwrap().unwrap();
    }
    let config = StoreConfig {
        database: url,
        ..config(folder.path())
    };
    let store = Store::open(&config).await.unwrap();
    store.insert_task(new_task()).await.unwrap();
}

async fn tables_are_made_shown_and_removed(on: On) {
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(on, folder.path()).await;
    let url = DatabaseUrl::parse(database.url()).unwrap();
    let status = migration_status(&url).await.unwrap();
    assert!(!status.is_empty() && status.iter().all(|known| known.applied_at.is_none()));
    migrate(&url).await.unwrap();
    migrate(&url).await.unwrap();
    let status = migration_status(&url).await.unwrap();
    assert!(status.iter().all(|known| known.applied_at.is_some()));
    assert!(status.is_sorted_by_key(|known| known.version));

    let mut connection = Direct::new(database.url()).await;
    connection.run("CREATE TABLE of_others (n INTEGER)").await;
    let fixture = Store::open(&StoreConfig {
        database: url.clone(),
        ..config(folder.path())
    })
    .await
    .unwrap();
    fixture.insert_task(new_task()).await.unwrap();
    fixture.close().await;
    drop_all(&url).await.unwrap();
    drop_all(&url).await.unwrap();
    let left = connection.texts(tables(on)).await;
    assert_eq!(left, ["of_others".to_owned()].into());
    migrate(&url).await.unwrap();
}

impl Fixture {
    /// The database as a test of its own connects to it.
    pub(crate) fn url(&self) -> &str {
        self.database.url()
    }
}

fn tables(on: On) -> &'static str {
    match on {
        On::Sqlite => {
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
        }
        On::Postgres => {
            "SELECT CAST(tablename AS TEXT) FROM pg_tables WHERE schemaname = current_schema()"
        }
        On::Mysql => {
            "SELECT table_name FROM information_schema.tables WHERE table_schema = database()"
        }
    }
}

/// `table.column`, and whether it may be null.
fn columns(on: On) -> &'static str {
    match on {
        On::Sqlite => {
            "SELECT t.name || '.' || c.name || CASE WHEN c.\"notnull\" OR c.pk THEN '' ELSE ' or null' END \
             FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%'"
        }
        On::Postgres => {
            "SELECT table_name || '.' || column_name || CASE is_nullable WHEN 'NO' THEN '' ELSE ' or null' END \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
        On::Mysql => {
            "SELECT concat(table_name, '.', column_name, CASE is_nullable WHEN 'NO' THEN '' ELSE ' or null' END) \
             FROM information_schema.columns WHERE table_schema = database()"
        }
    }
}

/// `table(column,…)`, and whether it is unique.
fn indexes(on: On) -> &'static str {
    match on {
        On::Sqlite => {
            "SELECT t.name || '(' || (SELECT group_concat(c.name) FROM pragma_index_info(i.name) c) || ')' \
             || CASE WHEN i.\"unique\" THEN ' unique' ELSE '' END \
             FROM sqlite_schema t, pragma_index_list(t.name) i \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' \
             UNION SELECT t.name || '(' || group_concat(c.name) || ') unique' \
             FROM sqlite_schema t, pragma_table_info(t.name) c \
             WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND c.pk > 0 GROUP BY t.name"
        }
        On::Postgres => {
            "SELECT t.relname || '(' || (SELECT string_agg(a.attname, ',' ORDER BY k.n) \
             FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, n) \
             JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum) || ')' \
             || CASE WHEN i.indisunique THEN ' unique' ELSE '' END \
             FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid \
             JOIN pg_namespace s ON s.oid = t.relnamespace WHERE s.nspname = current_schema()"
        }
        On::Mysql => {
            "SELECT concat(table_name, '(', group_concat(column_name ORDER BY seq_in_index), ')', \
             CASE min(non_unique) WHEN 0 THEN ' unique' ELSE '' END) \
             FROM information_schema.statistics WHERE table_schema = database() \
             GROUP BY table_name, index_name"
        }
    }
}

#[tokio::test]
async fn the_three_have_the_same_tables() {
    let mut seen = Vec::new();
    for on in On::ALL {
        let fixture = Fixture::new(on).await;
        let mut connection = Direct::new(fixture.url()).await;
        let mut schema = Vec::new();
        for sql in [tables(on), columns(on), indexes(on)] {
            schema.push(connection.texts(sql).await);
        }
        seen.push(schema);
    }
    assert!(
        seen[0][0].len() == 18 && seen[0][1].len() > 80,
        "{:?}",
        seen[0]
    );
    for other in &seen[1..] {
        for (sqlite, other) in seen[0].iter().zip(other) {
            let different: Vec<_> = sqlite.symmetric_difference(other).collect();
            assert!(different.is_empty(), "{different:?}");
        }
    }
}

/// What the version before had in it.
const OF_VERSION_1: &str = "
    INSERT INTO tasks (id, state, run, attempts, version, holder, created_at, finished_at, caller, depth,
        output_count, log_length, plugin, digest, base_url, progress, step, steps, links, labels, data,
        parameters, log)
    VALUES
        (1, 'running', 2, 1, 3, 'worker-1', 5, NULL, NULL, 0, 0, 2, 'p@1', 'd', 'http://b', NULL, NULL,
         '[]', '[]', '[\"l\"]', NULL, '{\"a\":1}', 'xy'),
        (2, 'succeeded', 1, 0, 1, NULL, 6, 7, 1, 1, 1, 5, 'q@1', 'd', 'http://b', NULL, NULL,
         '[]', '[]', '[]', '{\"k\":2}', '{}', 'he'),
        (9, 'queued', 1, 0, 0, NULL, 8, NULL, NULL, 0, 0, 0, 'q@1', 'd', 'http://b', NULL, NULL,
         '[]', '[]', '[]', NULL, '{}', '');
    DELETE FROM tasks WHERE id = 9;
    INSERT INTO task_labels (label, task) VALUES ('l', 1);
    INSERT INTO task_log (task, from_byte, text) VALUES (2, 2, 'llo');
    INSERT INTO files (task, kind, key, tag, name, data_type, content_type, size, digest, created_at)
        VALUES (2, 'output', 'k1', 't', 'o.txt', 'text', 'text/plain', 3, 'd', 6000);
    INSERT INTO subscriptions (task, webhook, event) VALUES (1, 'http://h/', ''), (1, 'http://i/', 'steps');
    INSERT INTO deliveries (task, webhook, event, attempts, due_at) VALUES (2, 'http://h/', 'status', 2, 0);
    INSERT INTO descriptions (key, description, stored_at) VALUES ('m', '{}', 0);";

#[tokio::test]
async fn a_database_of_the_version_before_is_upgraded_with_all_that_is_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::create_dir_all(config.database.file().unwrap().parent().unwrap()).unwrap();
    let url = format!("sqlite:///{}", config.database.file().unwrap().display());
    let mut connection = Direct::new(&url).await;
    let first = include_str!("../../../migrations/sqlite/0001_tasks_files_modules.sql");
    connection.run(first).await;
    connection
        .run(
            "CREATE TABLE runner_migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL, \
             applied_at INTEGER NOT NULL) STRICT; \
             INSERT INTO runner_migrations VALUES (1, 'tasks_files_modules', 0)",
        )
        .await;
    connection.run(OF_VERSION_1).await;

    let store = Store::open(&config).await.unwrap();
    let mut running = store.task(1).await.unwrap().unwrap();
    assert_eq!(
        (running.state, running.run, running.attempts),
        (TaskState::Running, 2, 1)
    );
    assert_eq!(
        (running.log.as_str(), &*running.labels),
        ("xy", &["l".to_owned()][..])
    );
    let ended = store.task(2).await.unwrap().unwrap();
    assert_eq!((ended.log.as_str(), ended.outputs.len()), ("hello", 1));
    assert_eq!(
        (ended.finished_at, ended.data["k"].as_i64()),
        (Some(7), Some(2))
    );
    let known = store.descriptions(&["m".to_owned()]).await.unwrap();
    assert_eq!(known["m"], "{}");
    let due = store.due_deliveries(5, LEASE).await.unwrap();
    assert_eq!((due.len(), due[0].task, due[0].attempts), (1, 2, 2));
    assert!(store.subscribe(1, "http://h/", None).await.unwrap());
    let write = run_write(&mut running, succeeded());
    assert!(store.write_run(write).await.unwrap());
    assert_eq!(
        store.deliveries_of(1).await.unwrap().len(),
        2,
        "two events, one subscription"
    );
    let next = store.insert_task(new_task()).await.unwrap().id();
    assert_eq!(next, 10, "a number is not given twice");
    assert_eq!(store.cancel_task(1).await.unwrap(), Some(Vec::new()));
    assert!(store.delete_task(1).await.unwrap());
    assert!(store.task(2).await.unwrap().is_some());
    store.close().await;
    let broken = connection
        .texts("SELECT \"table\" FROM pragma_foreign_key_check")
        .await;
    assert!(broken.is_empty(), "{broken:?}");
    let indexes = connection.texts(indexes(On::Sqlite)).await;
    let fresh = Fixture::new(On::Sqlite).await;
    let mut other = Direct::new(fresh.url()).await;
    assert_eq!(indexes, other.texts(self::indexes(On::Sqlite)).await);
}
