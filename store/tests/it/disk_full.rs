use std::path::Path;
use std::process::Command;
use std::time::Duration;

use runner_core::retention::{Ages, Retention};
use runner_core::task::Change;
use runner_store::{Store, StoreError};
use tempfile::TempDir;

use crate::{config, new_task, run_write, succeeded};

/// A small file system of its own; None, with the reason printed, where it cannot be had.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder.path())
            .output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(folder)),
            Ok(done) => {
                let reason = String::from_utf8_lossy(&done.stderr).into_owned();
                println!("skipped: no tmpfs can be mounted here: {reason}");
                None
            }
            Err(error) => {
                println!("skipped: mount cannot be called: {error}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all that is free.
    fn fill(&self) {
        let file = std::fs::File::create(self.path().join("ballast")).unwrap();
        let filled = std::io::copy(&mut std::io::repeat(1), &mut &file);
        assert!(filled.is_err());
    }

    fn make_room(&self) {
        std::fs::remove_file(self.path().join("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _status = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_forgotten_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let store = Store::open(&config(disk.path())).await.unwrap();
    let first = store.insert_task(new_task()).await.unwrap().id();
    assert!(store.files().free_bytes().unwrap() <= 4 << 20);
    disk.fill();

    let error = store.files().put(&[1; 9000][..]).unwrap_err();
    assert!(matches!(error, StoreError::DiskFull { .. }), "{error:?}");
    assert!(error.is_disk_full(), "{error}");
    // The write-ahead log may have some room left from before.
    let mut big = new_task();
    big.parameters
        .insert("x".to_owned(), "y".repeat(200_000).into());
    let mut refused = 0;
    for _ in 0..3 {
        let group: Vec<_> = (0..20)
            .map(|_| {
                let (store, task) = (store.clone(), big.clone());
                tokio::spawn(async move { store.insert_task(task).await })
            })
            .collect();
        for insert in group {
            match insert.await.unwrap() {
                Ok(_) => {}
                Err(StoreError::DiskFull { .. }) => refused += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert!(refused > 50, "{refused}");
    let mut task = store.task(first).await.unwrap().unwrap();
    let mut write = run_write(&mut task, Change::Started);
    write.log = "x".repeat(200_000);
    let error = store.write_run(write.clone()).await.unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");

    disk.make_room();
    assert!(store.write_run(write).await.unwrap());
    store.files().put(&[1; 9000][..]).unwrap();
    let second = store.insert_task(new_task()).await.unwrap().id();
    assert!(second > first);
    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());
    assert_eq!(
        store.task(first).await.unwrap().unwrap().log_length,
        200_000
    );
    store.close().await;
}

#[tokio::test]
async fn housekeeping_makes_room_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount() else {
        return;
    };
    let store = Store::open(&config(disk.path())).await.unwrap();
    let mut task = new_task();
    task.parameters
        .insert("x".to_owned(), "y".repeat(200_000).into());
    let id = store.insert_task(task).await.unwrap().id();
    store.cancel_task(id).await.unwrap();
    let orphan = store.files().put(&[1; 500_000][..]).unwrap();
    disk.fill();
    let all = Ages::parse("1s").unwrap();
    let retention = Retention {
        tasks: all,
        files: all,
        temporary: Duration::ZERO,
        permalinks: None,
    };
    let pause = Duration::from_secs(3_600);
    // What needs no room in the database is done, whatever becomes of the rest.
    match store.keep_house(&retention, pause, true).await {
        Ok(removed) => assert_eq!(removed.unwrap().temporary, 1),
        Err(error) => assert!(error.is_disk_full(), "{error:?}"),
    }
    assert!(store.files().open(&orphan.key).is_err());
    // Then there is room for it.
    let removed = store.keep_house(&retention, pause, true).await.unwrap();
    assert_eq!(removed.unwrap().errors, Vec::<String>::new());
    store.close().await;
}
