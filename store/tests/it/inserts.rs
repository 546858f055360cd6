use std::collections::HashSet;

use runner_core::file::Upload;
use runner_core::task::{Dispatch, Idempotency, NewTask, Priority, TaskState};
use runner_store::{Inserted, StoredFile, TaskFilter};

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, new_task};

on_each_database!(
    a_request_that_comes_again_makes_one_task,
    of_many_that_come_at_once_one_makes_the_task,
    how_a_task_is_run_is_kept,
    labels_and_uploads_come_with_the_task,
    a_request_that_comes_again_adds_no_labels_and_no_uploads,
    labels_that_differ_in_a_space_are_two,
);

fn known_as(key: &str, fingerprint: &str) -> NewTask {
    NewTask {
        idempotency: Some(Idempotency {
            key: key.to_owned(),
            fingerprint: fingerprint.to_owned(),
        }),
        ..new_task()
    }
}

async fn a_request_that_comes_again_makes_one_task(on: On) {
    let fixture = Fixture::new(on).await;
    let insert = async |task| fixture.store.insert_task(task).await.unwrap();
    let Inserted::New(id) = insert(known_as("a", "1")).await else {
        panic!("it is new");
    };
    assert_eq!(insert(known_as("a", "1")).await, Inserted::Same(id));
    assert_eq!(insert(known_as("a", "2")).await, Inserted::Other(id));
    let mut with_label = known_as("a", "1");
    with_label.labels = vec!["l".to_owned()];
    assert_eq!(insert(with_label).await, Inserted::Same(id));
    let other = insert(known_as("A", "1")).await;
    assert!(matches!(other, Inserted::New(new) if new > id), "{other:?}");
    assert!(fixture.store.delete_task(id).await.unwrap());
    let again = insert(known_as("a", "2")).await;
    assert!(
        matches!(again, Inserted::New(new) if new > other.id()),
        "{again:?}"
    );
}

async fn of_many_that_come_at_once_one_makes_the_task(on: On) {
    let fixture = Fixture::new(on).await;
    let other = fixture.other("worker-2").await;
    let inserts: Vec<_> = (0..40)
        .map(|number| {
            let store = if number % 2 == 0 {
                &fixture.store
            } else {
                &other
            }
            .clone();
            tokio::spawn(async move { store.insert_task(known_as("k", "f")).await.unwrap() })
        })
        .collect();
    let mut seen = Vec::new();
    for insert in inserts {
        seen.push(insert.await.unwrap());
    }
    let ids: HashSet<_> = seen.iter().map(|inserted| inserted.id()).collect();
    assert_eq!(ids.len(), 1, "{seen:?}");
    let new = seen
        .iter()
        .filter(|inserted| matches!(inserted, Inserted::New(_)));
    assert_eq!(new.count(), 1);
}

async fn how_a_task_is_run_is_kept(on: On) {
    let fixture = Fixture::new(on).await;
    for priority in Priority::ALL {
        let dispatch = Dispatch {
            priority,
            submitter: "somebody\u{0} ä".to_owned(),
            run_at: Some(i64::MAX),
            retries: Some(u32::MAX),
            timeout_ms: Some(86_400_000),
        };
        let task = NewTask {
            dispatch: dispatch.clone(),
            caller: None,
            ..new_task()
        };
        let id = fixture.store.insert_task(task).await.unwrap().id();
        let read = fixture.read(id).await;
        let submitter = "somebody\u{fffd} ä".to_owned();
        assert_eq!(
            read.dispatch,
            Dispatch {
                submitter,
                ..dispatch
            }
        );
        assert_eq!(read.failures, 0);
    }
}

async fn labels_and_uploads_come_with_the_task(on: On) {
    let fixture = Fixture::new(on).await;
    let uploads: Vec<_> = (0..3)
        .map(|number| {
            let stored = fixture.store.files().put(&b"x"[..]).unwrap();
            Upload {
                key: stored.key,
                name: format!("{number}\u{0}.csv"),
                content_type: "text/csv".to_owned(),
                size: stored.size,
            }
        })
        .collect();
    let task = NewTask {
        uploads: uploads.clone(),
        labels: vec!["ä".to_owned(), "b".to_owned()],
        ..new_task()
    };
    let id = fixture.store.insert_task(task.clone()).await.unwrap().id();
    assert_eq!(fixture.read(id).await.labels, ["ä", "b"]);
    let filter = TaskFilter {
        labels: vec!["b".to_owned(), "ä".to_owned()],
        plugin: Some("hello-world".to_owned()),
        states: vec![TaskState::Queued, TaskState::Failed],
        before: Some(id + 1),
    };
    let listed = fixture.store.tasks(&filter, 5).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!((listed[0].id, &*listed[0].labels), (id, &*task.labels));
    let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
    assert_eq!(fixture.store.sweep_files(later).await.unwrap(), 0);

    // Their keys belong to the first: nothing of the second is made.
    let before = fixture.store.counts(LEASE).await.unwrap();
    let error = fixture.store.insert_task(task).await.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    assert_eq!(fixture.store.counts(LEASE).await.unwrap(), before);
    assert!(fixture.store.delete_task(id).await.unwrap());
    assert!(fixture.store.files().open(&uploads[0].key).is_err());
}

async fn a_request_that_comes_again_adds_no_labels_and_no_uploads(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let kinds = [(true, false), (false, true), (true, true)];
    for (number, (has_labels, has_uploads)) in kinds.into_iter().enumerate() {
        let request = |label: &str| {
            let mut task = known_as(&format!("k{number}"), "f");
            if has_labels {
                task.labels = vec![format!("{label}{number}"), "x".to_owned()];
            }
            if has_uploads {
                let stored = [&b"x"[..], b"y"].map(|content| store.files().put(content).unwrap());
                let upload = |stored: StoredFile| Upload {
                    key: stored.key,
                    name: label.to_owned(),
                    content_type: "text/csv".to_owned(),
                    size: stored.size,
                };
                task.uploads = stored.map(upload).into();
            }
            task
        };
        // The newest task is not that of the request.
        let first = store.insert_task(request("first")).await.unwrap();
        assert!(matches!(first, Inserted::New(_)), "{first:?}");
        store.insert_task(new_task()).await.unwrap();
        let again = store.insert_task(request("again")).await.unwrap();
        assert_eq!(again, Inserted::Same(first.id()));
        for (label, count) in [("first", usize::from(has_labels)), ("again", 0)] {
            let filter = TaskFilter {
                labels: vec![format!("{label}{number}")],
                ..TaskFilter::default()
            };
            assert_eq!(store.tasks(&filter, 5).await.unwrap().len(), count);
        }
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(60);
        let without_row = if has_uploads { 2 } else { 0 };
        assert_eq!(store.sweep_files(later).await.unwrap(), without_row);
    }
}

async fn labels_that_differ_in_a_space_are_two(on: On) {
    let fixture = Fixture::new(on).await;
    for labels in [vec!["a", "a ", "A"], vec!["a "]] {
        let labels = labels.into_iter().map(str::to_owned).collect();
        let task = NewTask {
            labels,
            ..new_task()
        };
        fixture.store.insert_task(task).await.unwrap();
    }
    for (label, expected) in [("a", 1), ("a ", 2), ("A", 1), ("á", 0)] {
        let filter = TaskFilter {
            labels: vec![label.to_owned()],
            ..TaskFilter::default()
        };
        let found = fixture.store.tasks(&filter, 5).await.unwrap();
        assert_eq!(found.len(), expected, "{label:?}");
    }
}
