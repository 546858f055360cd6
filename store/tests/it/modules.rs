use runner_core::file::FileStat;

use crate::Fixture;
use crate::databases::On;

on_each_database!(
    descriptions_are_kept_by_their_key,
    digests_are_kept_while_the_file_is_as_it_was,
);

async fn descriptions_are_kept_by_their_key(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    assert_eq!(store.description("k").await.unwrap(), None);
    for text in ["{}", "{\"a\":1}"] {
        store.put_description("k", text).await.unwrap();
        let read = store.description("k").await.unwrap();
        assert_eq!(read.as_deref(), Some(text));
    }
    assert_eq!(store.description("other").await.unwrap(), None);
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
    store.put_file_digests(&[]).await.unwrap();
    assert_eq!(store.file_digest(&stat).await.unwrap(), None);
    let other = FileStat { inode: 3, ..stat };
    let digests = [(stat, "one".to_owned()), (other, "two".to_owned())];
    store.put_file_digests(&digests).await.unwrap();
    let read = |stat| async move { store.file_digest(&stat).await.unwrap() };
    assert_eq!(read(stat).await.as_deref(), Some("one"));
    assert_eq!(read(other).await.as_deref(), Some("two"));
    let edited = FileStat {
        changed_ns: 1,
        ..stat
    };
    assert_eq!(read(edited).await, None);
    let digests = [(edited, "three".to_owned())];
    store.put_file_digests(&digests).await.unwrap();
    assert_eq!(read(edited).await.as_deref(), Some("three"));
    assert_eq!(read(stat).await, None);
}
