use std::io::{ErrorKind, Write};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use runner_core::file::{File, Upload};
use runner_store::{NewFile, Store, StoreConfig, StoreError, StoredFile};

use crate::databases::On;
use crate::{Fixture, new_task, run_write, succeeded};

on_each_database!(
    a_file_that_is_not_finished_leaves_nothing,
    a_sweep_removes_only_old_keys_without_a_row,
    a_link_is_kept_beside_files_and_has_no_content,
    a_short_text_stands_in_its_row,
    processes_with_another_file_store_are_refused,
);

/// Files below a folder.
fn count(folder: &Path) -> usize {
    let mut files = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        files += match entry.file_type().unwrap().is_dir() {
            true => count(&entry.path()),
            false => 1,
        };
    }
    files
}

async fn a_file_that_is_not_finished_leaves_nothing(on: On) {
    let fixture = Fixture::new(on).await;
    let files = fixture.store.files();
    let mut writer = files.create().unwrap();
    writer.write_all(&[7; 100_000]).unwrap();
    assert_eq!(writer.size(), 100_000);
    assert_eq!(count(&fixture.config.files), 1);
    drop(writer);
    assert_eq!(count(&fixture.config.files), 0);

    let mut writer = files.create().unwrap();
    writer.append(b"hel").unwrap();
    writer.append(b"lo").unwrap();
    let stored = writer.finish().unwrap();
    assert_eq!(stored.size, 5);
    assert_eq!(stored.digest, files.put(&b"hello"[..]).unwrap().digest);
    let content = std::io::read_to_string(files.open(&stored.key).unwrap());
    assert_eq!(content.unwrap(), "hello");
}

async fn a_sweep_removes_only_old_keys_without_a_row(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let files = store.files();
    let uploaded = files.put(&b"in"[..]).unwrap();
    let mut task = new_task();
    task.uploads = vec![Upload {
        key: uploaded.key.clone(),
        name: "in.csv".to_owned(),
        content_type: "text/csv".to_owned(),
        size: uploaded.size,
    }];
    let id = store.insert_task(task).await.unwrap().id();
    let mut task = fixture.read(id).await;
    assert_eq!(task.outputs, [], "an upload is no output");
    assert_eq!(store.file(1).await.unwrap(), None, "and has no URL");
    let mut write = run_write(&mut task, succeeded());
    write.outputs = vec![fixture.output("out.csv")];
    let output = write.outputs[0].stored.key.clone();
    assert!(store.write_run(write).await.unwrap());
    let orphans: Vec<_> = (0..50).map(|_| fixture.output("lost.csv")).collect();
    let unfinished = files.create().unwrap();

    let now = SystemTime::now();
    let hour = Duration::from_secs(3600);
    assert_eq!(store.sweep_files(now - hour).await.unwrap(), 0);
    assert_eq!(count(&fixture.config.files), 53);
    assert_eq!(store.sweep_files(now + hour).await.unwrap(), 51);
    assert_eq!(count(&fixture.config.files), 2);
    assert!(files.open(&uploaded.key).is_ok() && files.open(&output).is_ok());
    assert!(files.open(&orphans[0].stored.key).is_err());
    assert!(unfinished.finish().is_err());
}

async fn a_link_is_kept_beside_files_and_has_no_content(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    let mut link = fixture.output("link.csv");
    store.files().remove(&link.stored.key).unwrap();
    link.stored = StoredFile::elsewhere();
    link.url = Some("http://h/\u{fc}?a=1".to_owned());
    write.outputs = vec![link, fixture.output("file.csv")];
    assert!(store.write_run(write).await.unwrap());
    let outputs = fixture.read(task.id).await.outputs;
    let urls: Vec<_> = outputs.iter().map(|file| file.url.as_deref()).collect();
    assert_eq!(urls, [Some("http://h/\u{fc}?a=1"), None]);
    for output in &outputs {
        assert_eq!(store.file(output.id).await.unwrap().as_ref(), Some(output));
    }
    let hour = Duration::from_secs(3600);
    let swept = store.sweep_files(SystemTime::now() + hour).await;
    assert_eq!(swept.unwrap(), 0);
    assert_eq!(count(&fixture.config.files), 1);
    assert!(store.delete_task(task.id).await.unwrap());
    assert_eq!(count(&fixture.config.files), 0);
}

/// An output that is a text.
fn text_output(fixture: &Fixture, text: &str) -> NewFile {
    NewFile {
        stored: fixture.store.files().put_text(text).unwrap(),
        ..fixture.output("text.txt")
    }
}

async fn read(store: &Store, file: &File, part: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<_> = store
        .content(file, part)
        .await?
        .try_collect()
        .await
        .unwrap();
    Ok(pieces.concat())
}

async fn a_short_text_stands_in_its_row(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let short = "\u{e4}\u{1f980} \\ \"quoted\"\n'?1' $2 %s";
    let long = "x".repeat(5_000);
    let with_nul = "a\0b";
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    let texts = [short, "", &long, with_nul];
    write.outputs = texts.map(|text| text_output(&fixture, text)).into();
    assert!(store.write_run(write).await.unwrap());
    let hour = Duration::from_secs(3600);
    store.sweep_files(SystemTime::now() + hour).await.unwrap();
    assert_eq!(
        count(&fixture.config.files),
        2,
        "the long one, and that with NUL"
    );

    let outputs = fixture.read(task.id).await.outputs;
    let in_row: Vec<_> = outputs.iter().map(|file| file.is_in_row).collect();
    assert_eq!(in_row, [true, true, false, false]);
    for (text, file) in texts.iter().zip(&outputs) {
        assert_eq!(store.file(file.id).await.unwrap().as_ref(), Some(file));
        assert_eq!(file.size, text.len() as u64);
        assert_eq!(
            file.digest,
            store.files().put(text.as_bytes()).unwrap().digest
        );
        assert_eq!(
            read(store, file, 0..file.size).await.unwrap(),
            text.as_bytes()
        );
        let path = fixture.config.files.join(format!("placed/{}", file.id));
        store.place(file, &path).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), text.as_bytes());
    }
    assert_eq!(
        read(store, &outputs[0], 2..6).await.unwrap(),
        "\u{1f980}".as_bytes()
    );
    let taken = fixture
        .config
        .files
        .join(format!("placed/{}", outputs[0].id));
    assert!(
        store.place(&outputs[0], &taken).await.is_err(),
        "a file is there"
    );
    let checked = store.check_files(SystemTime::now() - hour, true, false);
    let checked = checked.await.unwrap();
    assert_eq!((checked.rows, checked.findings), (2, Vec::new()));

    assert!(store.delete_task(task.id).await.unwrap());
    let gone = read(store, &outputs[0], 0..1).await.err().unwrap();
    assert!(
        matches!(gone, StoreError::File { ref source, .. } if source.kind() == ErrorKind::NotFound),
        "{gone}"
    );
}

async fn processes_with_another_file_store_are_refused(on: On) {
    let fixture = Fixture::new(on).await;
    fixture.store.check_file_store("first").await.unwrap();
    let same = fixture.other("same").await;
    same.check_file_store("second").await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        files: elsewhere.path().join("files"),
        process: "other".to_owned(),
        is_alone: false,
        ..fixture.config.clone()
    };
    let other = Store::open(&config).await.unwrap();
    let refused = other.check_file_store("second").await.unwrap_err();
    let text = refused.to_string();
    for part in ["on first", &config.files.display().to_string()] {
        assert!(text.contains(part), "{text}");
    }
    let moved = config.files.join("store-id");
    std::fs::copy(fixture.config.files.join("store-id"), &moved).unwrap();
    other.check_file_store("second").await.unwrap();
}
