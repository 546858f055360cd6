use std::collections::HashSet;

use runner_core::task::{Change, INLINE_LOG, LogWriter, TaskState};
use runner_store::StoreError;

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, run_write, succeeded};

on_each_database!(
    the_fence_stops_old_runs_other_holders_and_the_end,
    a_run_that_two_workers_finish_has_its_outputs_once,
    outputs_are_read_in_their_order_however_many_there_are,
    a_write_that_fails_writes_nothing_of_itself,
    a_long_log_is_read_in_pieces,
    a_long_log_is_whole_after_many_writes,
    a_log_of_ten_megabytes_comes_in_one_write,
);

async fn a_long_log_is_read_in_pieces(on: On) {
    let fixture = Fixture::new(on).await;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    // No power of two, so that pieces end within a letter.
    write.log = "täglich ".repeat(100_001);
    let log = write.log.clone();
    assert!(fixture.store.write_run(write).await.unwrap());
    let most = 100_000;
    let mut seen = String::new();
    while seen.len() < log.len() {
        let from = seen.len() as u64;
        let piece = fixture.store.task_since(task.id, from, most).await.unwrap();
        let piece = piece.unwrap();
        assert_eq!(piece.log_length, log.len() as u64);
        assert!(!piece.log.is_empty());
        let slack = 2 * 64 * 1024;
        assert!(
            piece.log.len() as u64 <= most + slack,
            "{}",
            piece.log.len()
        );
        seen.push_str(&piece.log);
    }
    assert_eq!(seen, log);
    let none = fixture.store.task_since(task.id, log.len() as u64, most);
    assert_eq!(none.await.unwrap().unwrap().log, "");
}

async fn the_fence_stops_old_runs_other_holders_and_the_end(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    store.subscribe(task.id, "http://h/", None).await.unwrap();
    let write = run_write(&mut task, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let before = fixture.read(task.id).await;

    let mut ended = run_write(&mut task, succeeded());
    ended.log = "late".to_owned();
    ended.outputs = vec![fixture.output("late.csv")];
    let mut old = ended.clone();
    old.run = 0;
    let other = fixture.other("worker-2").await;
    assert!(!other.write_run(ended.clone()).await.unwrap());
    let mut unknown = ended.clone();
    unknown.task.id = 99;
    for late in [old, unknown] {
        assert!(!store.write_run(late).await.unwrap());
    }
    assert_eq!(fixture.read(task.id).await, before, "nothing was written");
    let due = store.due_deliveries(10, LEASE).await.unwrap();
    assert_eq!(due, []);

    assert!(store.write_run(ended.clone()).await.unwrap());
    let done = fixture.read(task.id).await;
    assert_eq!(done.state, TaskState::Succeeded);
    // Its answer may have been lost: its outputs are recorded, and must not be discarded.
    assert!(store.write_run(ended.clone()).await.unwrap());
    ended.outputs = vec![fixture.output("later.csv")];
    assert!(!store.write_run(ended).await.unwrap());
    assert_eq!(fixture.read(task.id).await, done);
}

async fn a_run_that_two_workers_finish_has_its_outputs_once(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let mut first = run_write(&mut task, succeeded());
    let mut second = first.clone();
    let other = fixture.other("worker-2").await;
    first.outputs = vec![fixture.output("a.csv"), fixture.output("b.csv")];
    second.outputs = vec![fixture.output("a.csv"), fixture.output("b.csv")];
    let (first, second) = tokio::join!(store.write_run(first), other.write_run(second));
    assert_ne!(first.unwrap(), second.unwrap());
    let outputs = fixture.read(task.id).await.outputs;
    assert_eq!(outputs.len(), 2);
    let tags: HashSet<_> = outputs.iter().map(|file| &file.tag).collect();
    assert_eq!(tags.len(), 2);
    for file in &outputs {
        assert_eq!(file.tag.len(), 43);
        let read = store.file(file.id).await.unwrap();
        assert_eq!(read.as_ref(), Some(file));
        let content = std::io::read_to_string(store.files().open(&file.key).unwrap()).unwrap();
        assert_eq!((content.as_str(), file.size), (file.name.as_str(), 5));
        assert_eq!(file.digest.len(), 64);
        assert!(file.created_at > 1_700_000_000 && file.created_at < 10_000_000_000);
    }
}

async fn outputs_are_read_in_their_order_however_many_there_are(on: On) {
    let fixture = Fixture::new(on).await;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, Change::Started);
    let output = fixture.output("x");
    let outputs = |many: std::ops::Range<usize>, length: usize| {
        many.map(|n| {
            let mut output = output.clone();
            output.stored.key = format!("{n:032x}");
            output.name = format!("{n}{}", "ä".repeat(length));
            output
        })
        .collect()
    };
    write.outputs = outputs(0..30, 10);
    assert!(fixture.store.write_run(write.clone()).await.unwrap());
    // More than a megabyte, where MariaDB cuts off a list.
    write.outputs = outputs(30..1000, 1000);
    assert!(fixture.store.write_run(write.clone()).await.unwrap());
    let read = fixture.read(task.id).await;
    let names = read.outputs.iter().map(|file| {
        let digits = file.name.trim_end_matches('ä');
        digits.parse::<usize>().unwrap()
    });
    assert!(names.eq(0..1000));
    let since = fixture.store.task_since(task.id, 0, 100).await.unwrap();
    assert!(since.unwrap().outputs == read.outputs);
}

async fn a_write_that_fails_writes_nothing_of_itself(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    let output = fixture.output("a.csv");
    // One key cannot be that of two outputs.
    write.outputs = vec![output.clone(), output];
    let error = store.write_run(write.clone()).await.unwrap_err();
    assert!(matches!(error, StoreError::Sql { .. }), "{error:?}");
    assert!(error.to_string().contains("task 1"), "{error}");
    let seen = fixture.read(task.id).await;
    assert_eq!((seen.state, seen.version), (TaskState::Queued, 0));
    write.outputs.pop();
    assert!(store.write_run(write).await.unwrap());
    assert_eq!(fixture.read(task.id).await.outputs.len(), 1);
}

async fn a_long_log_is_whole_after_many_writes(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let mut log = LogWriter::new(task.log_length);
    let mut whole = String::new();
    let mut write = run_write(&mut task, Change::Started);
    // Sizes that meet the limit of the row inside of a character, and go over it at once and bit by bit.
    for (i, size) in [1, 5_000, 11_380, 40_000, 0, 3].into_iter().enumerate() {
        log.entry(&format!("{i}\u{0}{}", "ä".repeat(size / 2)));
        write.log = log.take();
        whole.push_str(&write.log);
        assert!(store.write_run(write.clone()).await.unwrap());
        let seen = fixture.read(task.id).await;
        assert_eq!(seen.log, whole);
        assert_eq!(seen.log_length, whole.len() as u64);
    }
    let task = store.task_for_run(task.id, 1).await.unwrap().unwrap().task;
    assert!(whole.starts_with(&task.log));
    assert!((1..=INLINE_LOG).contains(&task.log.len()));
    assert_eq!(task.log_length, whole.len() as u64);
}

async fn a_log_of_ten_megabytes_comes_in_one_write(on: On) {
    let fixture = Fixture::new(on).await;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, Change::Failed);
    write.log = "0123456789abcde\n".repeat(640 * 1024);
    assert!(fixture.store.write_run(write.clone()).await.unwrap());
    assert!(fixture.read(task.id).await.log == write.log);
}
