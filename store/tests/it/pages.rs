use runner_core::file::Upload;
use runner_core::task::{Change, TaskState};
use runner_store::PageWrite;

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, run_write, succeeded};

on_each_database!(
    of_two_changes_to_one_version_only_one_is_made,
    a_cancelled_task_is_lost_to_its_worker,
    files_that_come_with_a_change_get_rows_if_it_is_made,
);

async fn of_two_changes_to_one_version_only_one_is_made(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    store.subscribe(task.id, "http://h/", None).await.unwrap();
    let version = task.version;
    let events = task.apply(Change::Cancelled).unwrap();
    let (first, second) = tokio::join!(
        store.write_page(&task, version, &events),
        store.write_page(&task, version, &events),
    );
    assert_ne!(first.unwrap(), second.unwrap());
    let seen = fixture.read(task.id).await;
    assert_eq!((seen.state, seen.version), (TaskState::Cancelled, 1));
    assert!(seen.finished_at.is_some());
    let mut told = 0;
    while let Some(due) = store.due_deliveries(10, LEASE).await.unwrap().first() {
        told += 1;
        store.delivery_done(due.id).await.unwrap();
    }
    assert_eq!(told, events.len());
}

async fn a_cancelled_task_is_lost_to_its_worker(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let write = run_write(&mut task, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let mut page = fixture.read(task.id).await;
    let version = page.version;
    let events = page.apply(Change::Cancelled).unwrap();
    let write = PageWrite {
        task: &page,
        expected_version: version,
        events: &events,
        uploads: &[],
        log: "cancelled",
    };
    assert!(store.write_page_with(write).await.unwrap());
    let write = run_write(&mut task, succeeded());
    assert!(!store.write_run(write).await.unwrap());
    let seen = fixture.read(task.id).await;
    assert_eq!(seen.state, TaskState::Cancelled);
    assert_eq!(seen.log, "cancelled");
}

async fn files_that_come_with_a_change_get_rows_if_it_is_made(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let stored = [1, 2].map(|_| store.files().put(&b"x"[..]).unwrap());
    let upload = |key: &String| Upload {
        key: key.clone(),
        name: "x".to_owned(),
        content_type: "text/plain".to_owned(),
        size: 1,
    };
    let version = task.version;
    task.apply(Change::Started).unwrap();
    for (stored, expected) in stored.iter().zip([true, false]) {
        let uploads = [upload(&stored.key)];
        let write = PageWrite {
            task: &task,
            expected_version: version,
            events: &[],
            uploads: &uploads,
            log: "",
        };
        assert_eq!(store.write_page_with(write).await.unwrap(), expected);
    }
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    assert_eq!(store.sweep_files(later).await.unwrap(), 1);
    assert!(store.files().open(&stored[0].key).is_ok());
}
