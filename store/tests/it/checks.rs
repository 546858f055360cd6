//! Rows and content that do not fit together, and how much there is.

use std::time::{Duration, SystemTime};

use runner_core::wanted::{Decision, Kept, Wanted};
use runner_store::{Checked, Decided, Finding};

use crate::databases::On;
use crate::{Fixture, run_write, succeeded};

on_each_database!(
    what_does_not_fit_together_is_found_and_repaired,
    packages_of_modules_are_looked_at,
    what_there_is_is_counted,
);

async fn what_does_not_fit_together_is_found_and_repaired(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    write.outputs = ["good", "gone", "cut", "spoilt"]
        .map(|name| fixture.output(name))
        .into();
    assert!(store.write_run(write).await.unwrap());
    let later = SystemTime::now() + Duration::from_secs(60);
    let checked = store.check_files(later, true, false).await.unwrap();
    assert_eq!((checked.rows, checked.contents), (4, 4));
    assert_eq!(checked.findings, []);

    let outputs = fixture.read(task.id).await.outputs;
    let path = |at: usize| fixture.content(&outputs[at].key);
    std::fs::remove_file(path(1)).unwrap();
    std::fs::write(path(2), "cu").unwrap();
    std::fs::write(path(3), "SPOILT").unwrap();
    let orphan = store.files().put_bytes(b"nobody's").unwrap();
    let mut unfinished = store.files().create().unwrap();
    unfinished.append(b"half").unwrap();
    std::mem::forget(unfinished);

    // What was stored just now may be of somebody who is about to write its row.
    let long_ago = SystemTime::now() - Duration::from_secs(60);
    let checked = store.check_files(long_ago, false, true).await.unwrap();
    assert_eq!((checked.young, checked.repaired), (4, 1));
    assert!(fixture.content(&orphan.key).exists());
    assert_eq!(fixture.read(task.id).await.outputs.len(), 3);

    let checked = store.check_files(later, true, false).await.unwrap();
    let kinds = kinds(&checked);
    assert_eq!(
        kinds,
        ["wrong size", "wrong digest", "no row", "unfinished"]
    );
    let checked = store.check_files(later, true, true).await.unwrap();
    assert_eq!((checked.findings.len(), checked.repaired), (4, 2));
    assert!(!fixture.content(&orphan.key).exists());
    let left = store.check_files(later, true, false).await.unwrap();
    assert_eq!(self::kinds(&left), ["wrong size", "wrong digest"]);
}

async fn packages_of_modules_are_looked_at(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let put = || store.files().put_bytes(b"package").unwrap();
    let packages = [("good", put()), ("gone", put()), ("cut", put())];
    for (name, package) in &packages {
        let kept = Kept {
            digest: "d".to_owned(),
            key: package.key.clone(),
            size: package.size,
            path: "/m.py".to_owned(),
        };
        let wanted = Wanted {
            kept: Some(kept),
            ..Wanted::of_folder(name)
        };
        let is_load = true;
        let decided = store.decide(Decision { wanted, is_load }).await.unwrap();
        assert!(matches!(decided, Decided::Yes { .. }));
    }
    let later = SystemTime::now() + Duration::from_secs(60);
    let checked = store.check_files(later, true, false).await.unwrap();
    assert_eq!((checked.rows, checked.contents), (3, 3));
    assert_eq!(checked.findings, []);

    std::fs::remove_file(fixture.content(&packages[1].1.key)).unwrap();
    std::fs::write(fixture.content(&packages[2].1.key), "cut").unwrap();
    // That an administrator wants them is not undone.
    for _ in 0..2 {
        let mut checked = store.check_files(later, true, true).await.unwrap();
        checked
            .findings
            .sort_by_key(|finding| format!("{finding:?}"));
        let queue = "default".to_owned();
        let gone = Finding::NoPackage {
            module: "gone".to_owned(),
            queue: queue.clone(),
            key: packages[1].1.key.clone(),
        };
        let cut = Finding::WrongPackage {
            module: "cut".to_owned(),
            queue,
            expected: 7,
            found: 3,
        };
        assert_eq!((checked.findings, checked.repaired), (vec![gone, cut], 0));
    }
    assert_eq!(store.wanted_modules().await.unwrap().modules.len(), 3);
}

fn kinds(checked: &Checked) -> Vec<&'static str> {
    let kind = |finding: &Finding| match finding {
        Finding::NoRow { .. } => "no row",
        Finding::NoContent { .. } => "no content",
        Finding::WrongSize { .. } => "wrong size",
        Finding::WrongDigest { .. } => "wrong digest",
        Finding::NoPackage { .. } => "no package",
        Finding::WrongPackage { .. } => "wrong package",
        Finding::Unfinished { .. } => "unfinished",
    };
    checked.findings.iter().map(kind).collect()
}

async fn what_there_is_is_counted(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    fixture.task().await;
    let mut write = run_write(&mut task, succeeded());
    write.outputs = vec![fixture.output("four"), fixture.output("sixsix")];
    assert!(store.write_run(write).await.unwrap());
    store.files().put_bytes(b"nobody's").unwrap();
    let usage = store.usage().await.unwrap();
    assert_eq!((usage.tasks["queued"], usage.tasks["succeeded"]), (1, 1));
    assert_eq!((usage.outputs, usage.uploads), ((2, 10), (0, 0)));
    assert_eq!((usage.content, usage.temporary), ((3, 18), (0, 0)));
    assert!(usage.free > 0 && usage.database.unwrap() > 0);
}
