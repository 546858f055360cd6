use std::collections::HashMap;

use runner_core::file::FileStat;

use crate::Fixture;
use crate::databases::On;

on_each_database!(
    descriptions_are_kept_by_their_key,
    digests_are_kept_while_the_file_is_as_it_was,
    digests_of_any_number_of_files_are_kept,
);

async fn descriptions_are_kept_by_their_key(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let keys = ["k", "other", "K"].map(str::to_owned);
    assert!(store.descriptions(&[]).await.unwrap().is_empty());
    assert!(store.descriptions(&keys).await.unwrap().is_empty());
    for text in ["{}", "{\"a\":1}"] {
        store.put_description("k", text).await.unwrap();
        let read = store.descriptions(&keys).await.unwrap();
        assert_eq!(read, HashMap::from([("k".to_owned(), text.to_owned())]));
    }
    store.put_description("other", "[]").await.unwrap();
    assert_eq!(store.descriptions(&keys).await.unwrap().len(), 2);
}

async fn digests_are_kept_while_the_file_is_as_it_was(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let stat = FileStat {
        device: u64::MAX,
        inode: u64::MAX - 1,
        size: 7,
        modified_ns: 1_700_000_000_123_456_789,
        changed_ns: i64::MIN,
    };
    let other = FileStat { inode: 3, ..stat };
    let edited = FileStat {
        changed_ns: 1,
        ..stat
    };
    let read = || async {
        let read = store.file_digests(&[stat, other, edited]).await.unwrap();
        [stat, other, edited].map(|stat| read.get(&stat).cloned())
    };
    let known = |digest: &str| Some(digest.to_owned());
    store.put_file_digests(&[]).await.unwrap();
    assert_eq!(read().await, [None, None, None]);
    let digests = [(stat, "one".to_owned()), (other, "two".to_owned())];
    store.put_file_digests(&digests).await.unwrap();
    assert_eq!(read().await, [known("one"), known("two"), None]);
    let digests = [(edited, "three".to_owned())];
    store.put_file_digests(&digests).await.unwrap();
    assert_eq!(read().await, [None, known("two"), known("three")]);
}

async fn digests_of_any_number_of_files_are_kept(on: On) {
    let fixture = Fixture::new(on).await;
    let stat = |inode| FileStat {
        device: 1,
        inode,
        size: 0,
        modified_ns: 0,
        changed_ns: 0,
    };
    let digests: Vec<_> = (0..12_000).map(|n| (stat(n), format!("{n}"))).collect();
    fixture.store.put_file_digests(&digests).await.unwrap();
    let stats: Vec<_> = (0..12_001).map(stat).collect();
    let read = fixture.store.file_digests(&stats).await.unwrap();
    assert_eq!(read, digests.into_iter().collect());
}
