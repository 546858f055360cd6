use runner_store::{DatabaseUrl, Durability, Store, StoreConfig, StoreError};
use rusqlite::Connection;

use crate::databases::On;
use crate::{Fixture, config, new_task};

fn connect(config: &StoreConfig) -> Connection {
    Connection::open(config.database.file().unwrap()).unwrap()
}

#[tokio::test]
async fn a_database_of_a_newer_runner_is_refused() {
    let fixture = Fixture::new(On::Sqlite).await;
    let Fixture { store, config, .. } = &fixture;
    store.close().await;
    let known = runner_store::migration_status(&config.database).await;
    let newest = known.unwrap().last().unwrap().version;
    connect(config)
        .execute("INSERT INTO runner_migrations VALUES (99, 'later', 0)", [])
        .unwrap();
    let error = Store::open(config).await.unwrap_err();
    let expected = StoreError::Newer {
        database: config.database.to_string(),
        found: 99,
        known: newest,
    };
    assert_eq!(error.to_string(), expected.to_string());
}

#[tokio::test]
async fn what_is_no_database_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    std::fs::create_dir_all(config.database.file().unwrap().parent().unwrap()).unwrap();
    let file = config.database.file().unwrap();
    std::fs::write(file, "no database at all, just text".repeat(100)).unwrap();
    let error = Store::open(&config).await.unwrap_err();
    assert!(error.to_string().contains("runner.db"), "{error}");

    std::fs::remove_file(file).unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    let config = StoreConfig {
        database: DatabaseUrl::of_file(folder.path().join("plain/runner.db")),
        ..config
    };
    let error = Store::open(&config).await.unwrap_err();
    assert!(error.to_string().contains("plain"), "{error}");
}

#[tokio::test]
async fn several_may_open_an_empty_folder_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path());
    let open = || Store::open(&config);
    let (a, b, c) = tokio::join!(open(), open(), open());
    for (store, id) in [a, b, c].into_iter().zip(1..) {
        assert_eq!(
            store.unwrap().insert_task(new_task()).await.unwrap().id(),
            id
        );
    }
}

#[tokio::test]
async fn a_closed_store_refuses_and_leaves_one_file() {
    let fixture = Fixture::new(On::Sqlite).await;
    let id = fixture.task().await.id;
    let other = fixture.store.clone();
    fixture.store.close().await;
    assert!(matches!(other.task(id).await, Err(StoreError::Closed)));
    let insert = other.insert_task(new_task()).await;
    assert!(matches!(insert, Err(StoreError::Closed)));
    let folder = fixture.config.database.file().unwrap().parent().unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 1);
}

#[tokio::test]
async fn a_store_that_survives_power_cuts_does_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        durability: Durability::Power,
        ..config(folder.path())
    };
    let store = Store::open(&config).await.unwrap();
    assert_eq!(store.insert_task(new_task()).await.unwrap().id(), 1);
    let stored = store.files().put(&b"x"[..]).unwrap();
    assert!(store.files().open(&stored.key).is_ok());
}

#[tokio::test]
async fn the_database_is_set_up_as_documented() {
    let fixture = Fixture::new(On::Sqlite).await;
    let connection = connect(&fixture.config);
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .unwrap();
    assert_eq!(mode, "wal");
    let plan: String = connection
        .query_row(
            "EXPLAIN QUERY PLAN SELECT id FROM tasks WHERE state IN ('queued', 'running') \
             AND attempts + (state = 'running') > 3 ORDER BY id",
            [],
            |row| row.get(3),
        )
        .unwrap();
    assert!(plan.contains("tasks_state"), "{plan}");
}
