use std::time::Duration;

use object_store::memory::InMemory;

use super::super::{FileStore, SHELVES};
use super::*;

struct Fixture {
    files: FileStore,
    memory: Arc<InMemory>,
    folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(InMemory::new());
        let files = Self::on(Arc::clone(&memory) as _, &folder);
        Self {
            files,
            memory,
            folder,
        }
    }

    fn on(store: Arc<dyn ObjectStore>, folder: &tempfile::TempDir) -> FileStore {
        let objects = Objects::new(store, "a/b", "memory".to_owned()).unwrap();
        FileStore::of(Arc::new(objects), folder.path()).unwrap()
    }

    fn content(&self, key: &str) -> Vec<u8> {
        let mut content = Vec::new();
        let mut source = self.files.open(key).unwrap();
        source.read_to_end(&mut content).unwrap();
        content
    }

    async fn locations(&self) -> Vec<String> {
        let listed = self.memory.list(None).map_ok(|object| object.location);
        let listed: Vec<_> = listed.try_collect().await.unwrap();
        listed.iter().map(ToString::to_string).collect()
    }

    fn drafts(&self) -> usize {
        let drafts = std::fs::read_dir(self.folder.path().join("tmp"));
        drafts.unwrap().count()
    }
}

/// What cannot be compressed away by chance.
fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|n| (n * 31 / 7 % 251) as u8).collect()
}

#[tokio::test]
async fn contents_of_all_lengths_come_back_whatever_way_they_came() {
    let fixture = Fixture::new();
    for length in [0, 5, PART - 1, PART, PART + 1, 3 * PART] {
        let content = bytes(length);
        let streamed = fixture.files.put(&*content).unwrap();
        let at_once = fixture.files.put_bytes(&content).unwrap();
        let mut writer = fixture.files.create().unwrap();
        for piece in content.chunks(1 << 20) {
            writer.append(piece).unwrap();
        }
        let piecewise = writer.finish().unwrap();
        for stored in [streamed, at_once, piecewise] {
            let found = fixture.content(&stored.key);
            assert!(found == content, "{length} bytes");
            let digest = hexadecimal(&Sha256::digest(&content));
            assert_eq!((stored.size, stored.digest), (length as u64, digest));
            fixture.files.remove(&stored.key).unwrap();
            fixture.files.remove(&stored.key).unwrap();
            let error = fixture.files.open(&stored.key).err().unwrap();
            assert!(error.to_string().contains(&stored.key), "{error}");
        }
    }
    assert_eq!(fixture.locations().await, [""; 0]);
    assert_eq!(fixture.drafts(), 0);
}

#[tokio::test]
async fn a_part_is_read_without_the_rest() {
    let fixture = Fixture::new();
    let content = bytes(100_000);
    let key = fixture.files.put(&*content).unwrap().key;
    for part in [0..100_000, 0..1, 99_999..100_000, 500..500, 1_000..70_000] {
        let stream = fixture.files.read(&key, part.clone()).await.unwrap();
        let pieces: Vec<Bytes> = stream.try_collect().await.unwrap();
        let wanted = &content[part.start as usize..part.end as usize];
        assert!(pieces.concat() == wanted, "{part:?}");
    }
    let path = fixture.folder.path().join("x/placed");
    fixture.files.place(&key, &path).unwrap();
    assert!(std::fs::read(path).unwrap() == content);
}

#[tokio::test]
async fn a_source_that_fails_leaves_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let fixture = Fixture::new();
    for length in [10, PART, 2 * PART + 10] {
        let content = bytes(length);
        let error = fixture.files.put((&*content).chain(Broken)).unwrap_err();
        assert!(error.to_string().contains("reading what is to be stored"));
    }
    let mut writer = fixture.files.create().unwrap();
    writer.append(b"half").unwrap();
    drop(writer);
    assert_eq!(fixture.locations().await, [""; 0]);
    assert_eq!(fixture.drafts(), 0);
}

#[tokio::test]
async fn keys_are_found_on_their_shelves_and_two_processes_see_one_store() {
    let fixture = Fixture::new();
    let other = Fixture::on(Arc::clone(&fixture.memory) as _, &fixture.folder);
    assert_eq!(fixture.files.marker("first").unwrap(), "first");
    assert_eq!(other.marker("second").unwrap(), "first");
    let mut keys: Vec<_> = (0..50)
        .map(|_| fixture.files.put_bytes(b"x").unwrap().key)
        .collect();
    let all = fixture.locations().await;
    assert_eq!(all.len(), 51);
    assert!(all.iter().all(|name| name.starts_with("a/b/")), "{all:?}");
    let hour = Duration::from_secs(3600);
    let on_all = |older_than: SystemTime| {
        let shelves = (0..SHELVES).flat_map(|shelf| other.keys_on(shelf, older_than).unwrap());
        let mut found: Vec<_> = shelves.collect();
        found.sort();
        found
    };
    keys.sort();
    assert_eq!(on_all(SystemTime::now() + hour), keys);
    assert_eq!(on_all(SystemTime::now() - hour), [""; 0]);
}

#[tokio::test]
async fn what_is_no_key_leads_nowhere() {
    let fixture = Fixture::new();
    for key in ["", "..", "../../store-id", "/x", "ü", &"g".repeat(32)] {
        assert!(fixture.files.open(key).is_err(), "{key}");
    }
}
