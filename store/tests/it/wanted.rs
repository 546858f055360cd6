//! What is wanted of modules: of two who decide at once one counts, and generations grow.

use std::time::{Duration, SystemTime};

use runner_core::retention::Retention;
use runner_core::wanted::{Decision, Kept, Wanted, WantedState};
use runner_store::Decided;
use serde_json::json;

use crate::Fixture;
use crate::databases::On;
use crate::schema::Direct;

on_each_database!(
    what_was_decided_is_read_and_generations_grow,
    of_many_who_decide_at_once_one_counts,
    packages_of_modules_are_not_swept,
    that_a_module_was_removed_is_forgotten_when_it_lies_nowhere,
);

fn kept(name: &str, key: &str) -> Wanted {
    Wanted {
        kept: Some(Kept {
            digest: "d1".to_owned(),
            key: key.to_owned(),
            size: 7,
            path: "/modules/größe.py".to_owned(),
        }),
        args: Some(vec![json!("a b"), json!(4)]),
        loader: Some("python".to_owned()),
        ..Wanted::of_folder(name)
    }
}

fn decision(wanted: Wanted, is_load: bool) -> Decision {
    Decision { wanted, is_load }
}

fn yes(generation: i64, replaced: Option<&str>) -> Decided {
    Decided::Yes {
        generation,
        replaced: replaced.map(str::to_owned),
    }
}

async fn what_was_decided_is_read_and_generations_grow(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let none = store.wanted_modules().await.unwrap();
    assert_eq!((none.generation, none.modules.len()), (0, 0));
    let stopped = Wanted {
        state: WantedState::Stopped,
        ..Wanted::of_folder("solver")
    };
    let decide = |wanted, is_load| store.decide(decision(wanted, is_load));
    assert_eq!(decide(stopped.clone(), false).await.unwrap(), yes(1, None));
    // Of the same name, and apart from it.
    let first = kept("solver", "k1");
    assert_eq!(decide(first.clone(), true).await.unwrap(), yes(2, None));
    let all = store.wanted_modules().await.unwrap();
    let expected = Wanted {
        generation: 2,
        loaded: 2,
        ..first.clone()
    };
    assert_eq!(all.get("solver", true), Some(&expected));
    assert_eq!(
        all.get("solver", false).unwrap().state,
        WantedState::Stopped
    );
    // Who knew nothing of it.
    assert_eq!(decide(first, true).await.unwrap(), Decided::Overtaken);
    let newer = Wanted {
        kept: kept("solver", "k2").kept,
        ..expected
    };
    assert_eq!(
        decide(newer.clone(), true).await.unwrap(),
        yes(3, Some("k1"))
    );
    let removed = Wanted {
        generation: 3,
        loaded: 3,
        state: WantedState::Removed,
        ..newer
    };
    assert_eq!(
        decide(removed.clone(), false).await.unwrap(),
        yes(4, Some("k2"))
    );
    assert_eq!(decide(removed, false).await.unwrap(), Decided::Overtaken);
    let all = store.wanted_modules().await.unwrap();
    assert_eq!((all.generation, all.modules.len()), (4, 1));
    // A generation is never given twice.
    assert_eq!(
        decide(kept("solver", "k3"), true).await.unwrap(),
        yes(5, None)
    );
}

async fn of_many_who_decide_at_once_one_counts(on: On) {
    let fixture = Fixture::new(on).await;
    let all = (0..8).map(|n| {
        let store = fixture.store.clone();
        tokio::spawn(async move {
            let wanted = kept("solver", &format!("k{n}"));
            store.decide(decision(wanted, true)).await.unwrap()
        })
    });
    let mut counted = 0;
    for one in all.collect::<Vec<_>>() {
        counted += usize::from(one.await.unwrap() != Decided::Overtaken);
    }
    assert_eq!(counted, 1);
    assert_eq!(fixture.store.wanted_modules().await.unwrap().generation, 1);
}

async fn that_a_module_was_removed_is_forgotten_when_it_lies_nowhere(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let of = |name: &str, state| Wanted {
        state,
        ..Wanted::of_folder(name)
    };
    for wanted in [
        of("gone", WantedState::Removed),
        of("there", WantedState::Removed),
        of("stopped", WantedState::Stopped),
        kept("kept", "k1"),
    ] {
        store.decide(decision(wanted, false)).await.unwrap();
    }
    let names = async || {
        let all = store.wanted_modules().await.unwrap().modules.into_iter();
        all.map(|wanted| wanted.name).collect::<Vec<_>>()
    };
    let keep_house = async || {
        let retention = Retention {
            temporary: Duration::from_secs(3_600),
            ..Retention::default()
        };
        let removed = store.remove_old(&retention).await;
        assert_eq!(removed.errors, Vec::<String>::new());
    };
    let all = ["gone", "kept", "stopped", "there"];
    keep_house().await;
    assert_eq!(names().await, all);
    // Long ago; and a process says that one of them is still in its plugin folder.
    let mut connection = Direct::new(fixture.url()).await;
    connection
        .run("UPDATE modules SET changed_at = changed_at - 8640000000")
        .await;
    let told = ["there", "stopped", "elsewhere"].map(str::to_owned);
    store.keep_removed(&told).await.unwrap();
    keep_house().await;
    assert_eq!(names().await, all[1..]);
    // Who still knows of it decides as if it stood there; who knows nothing of another one does not.
    let known = Wanted {
        generation: 1,
        ..of("gone", WantedState::Running)
    };
    assert_eq!(
        store.decide(decision(known, true)).await.unwrap(),
        yes(5, None)
    );
    let unknown = of("there", WantedState::Running);
    assert_eq!(
        store.decide(decision(unknown, true)).await.unwrap(),
        Decided::Overtaken
    );
}

async fn packages_of_modules_are_not_swept(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let (named, orphan) = (
        store.files().put(&b"package"[..]).unwrap(),
        store.files().put(&b"nothing"[..]).unwrap(),
    );
    let wanted = kept("solver", &named.key);
    store.decide(decision(wanted, true)).await.unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    assert_eq!(store.sweep_files(later).await.unwrap(), 1);
    assert!(store.files().open(&named.key).is_ok());
    assert!(store.files().open(&orphan.key).is_err());
}
