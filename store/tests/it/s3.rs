//! The file store on a real server that speaks S3; `tests/s3/run` starts one and says where it is.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use futures::TryStreamExt;
use runner_store::{Bucket, DatabaseUrl, Durability, Store, StoreConfig};

/// More than two parts.
const LARGE: usize = 20 << 20;

/// The endpoint, which has a bucket `files`.
fn endpoint() -> String {
    std::env::var("RUNNER_TEST_S3").expect("RUNNER_TEST_S3 says where the server is: tests/s3/run")
}

fn bucket(text: &str) -> Bucket {
    let options = [
        ("AWS_ENDPOINT_URL", &*endpoint()),
        ("AWS_ACCESS_KEY_ID", "me"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_REGION", "us-east-1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    Bucket::parse(text, options).unwrap()
}

async fn open(folder: &Path, process: &str, place: &str) -> Store {
    let config = StoreConfig {
        database: DatabaseUrl::of_file(folder.join("runner.db")),
        files: folder.join(process),
        bucket: Some(bucket(place)),
        durability: Durability::Process,
        queue: "default".to_owned(),
        process: process.to_owned(),
        is_alone: false,
    };
    Store::open(&config).await.unwrap()
}

fn content(store: &Store, key: &str) -> Vec<u8> {
    let mut content = Vec::new();
    let mut source = store.files().open(key).unwrap();
    source.read_to_end(&mut content).unwrap();
    content
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/s3/run starts the server that it needs"]
async fn contents_come_back_whole_and_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), "one", "s3://files/contents").await;
    let files = store.files();
    assert!(files.is_slow());
    let large: Vec<u8> = (0..LARGE).map(|n| (n / 7 % 251) as u8).collect();
    for wanted in [&b""[..], b"hello", &large] {
        let stored = files.put(wanted).unwrap();
        assert_eq!(stored.size, wanted.len() as u64);
        assert!(content(&store, &stored.key) == wanted);
        let same = files.put_bytes(wanted).unwrap();
        assert_eq!(same.digest, stored.digest);
        assert!(content(&store, &same.key) == wanted);
    }
    let key = files.put(&*large).unwrap().key;
    let part = 9_000_000..17_000_000;
    let stream = files.read(&key, part.clone()).await.unwrap();
    let pieces: Vec<_> = stream.try_collect().await.unwrap();
    assert!(pieces.concat() == large[part.start as usize..part.end as usize]);
    let path = folder.path().join("placed");
    files.place(&key, &path).unwrap();
    assert!(std::fs::read(path).unwrap() == large);
    files.remove(&key).unwrap();
    files.remove(&key).unwrap();
    assert!(files.open(&key).is_err());
    assert!(files.read(&key, 0..1).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/s3/run starts the server that it needs"]
async fn half_of_a_source_is_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("broken"))
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), "one", "s3://files/half").await;
    for length in [10, LARGE] {
        let begun = vec![1; length];
        store.files().put((&*begun).chain(Broken)).unwrap_err();
    }
    let hour = Duration::from_secs(3600);
    assert_eq!(
        store.sweep_files(SystemTime::now() + hour).await.unwrap(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/s3/run starts the server that it needs"]
async fn orphans_are_swept_when_they_are_old() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), "one", "s3://files/orphans").await;
    let keys: Vec<_> = (0..5)
        .map(|_| store.files().put_bytes(b"x").unwrap().key)
        .collect();
    let hour = Duration::from_secs(3600);
    assert_eq!(
        store.sweep_files(SystemTime::now() - hour).await.unwrap(),
        0
    );
    assert_eq!(
        store.sweep_files(SystemTime::now() + hour).await.unwrap(),
        5
    );
    assert!(keys.iter().all(|key| store.files().open(key).is_err()));
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/s3/run starts the server that it needs"]
async fn processes_with_another_bucket_or_prefix_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path(), "one", "s3://files/mine").await;
    first.check_file_store("first").await.unwrap();
    let same = open(folder.path(), "two", "s3://files/mine/").await;
    same.check_file_store("second").await.unwrap();
    let other = open(folder.path(), "three", "s3://files/yours").await;
    let refused = other
        .check_file_store("second")
        .await
        .unwrap_err()
        .to_string();
    for part in ["s3://files/mine", "s3://files/yours", "on first"] {
        assert!(refused.contains(part), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "tests/s3/run starts the server that it needs"]
async fn a_bucket_that_is_not_there_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path(), "one", "s3://nowhere/x").await;
    let error = store
        .check_file_store("here")
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("s3://nowhere/x"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    let error = store.files().put_bytes(b"x").unwrap_err().to_string();
    assert!(error.contains("s3://nowhere/x"), "{error}");
}
