use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

use crate::sql::{Ask, Statement, args};
use crate::{DatabaseUrl, Durability, migrations};

async fn writer() -> (tempfile::TempDir, Writer) {
    let folder = tempfile::tempdir().unwrap();
    let url = DatabaseUrl::of_file(folder.path().join("db"));
    let database = Database::new(&url, Durability::Process);
    let mut connection = database.open().await.unwrap();
    migrations::apply(&mut connection, &url).await.unwrap();
    (
        folder,
        Writer::start(database, connection, Arc::new(Recent::new(false))),
    )
}

/// Keeps a description; fails as it is told to, after having written.
struct Put {
    key: &'static str,
    fails: Option<fn() -> StoreError>,
    /// How many times it fails.
    times: AtomicUsize,
    applied: Arc<AtomicUsize>,
}

impl Put {
    fn new(key: &'static str) -> Self {
        Self {
            key,
            fails: None,
            times: AtomicUsize::new(0),
            applied: Arc::default(),
        }
    }

    fn failing(key: &'static str, times: usize, error: fn() -> StoreError) -> Self {
        Self {
            fails: Some(error),
            times: AtomicUsize::new(times),
            ..Self::new(key)
        }
    }
}

impl Write for Put {
    type Answer = i64;

    async fn apply(&self, connection: &mut Connection, _is_again: bool) -> Result<i64, StoreError> {
        self.applied.fetch_add(1, Ordering::Relaxed);
        let done = connection.execute(&PUT, args![self.key]).await;
        done.map_err(|source| StoreError::sql("putting", source))?;
        if let Some(fails) = self.fails
            && self.times.load(Ordering::Relaxed) > 0
        {
            self.times.fetch_sub(1, Ordering::Relaxed);
            return Err(fails());
        }
        let row = connection.row(&COUNT, args![]).await;
        row.and_then(|row| row.unwrap().get(0))
            .map_err(|source| StoreError::sql("counting", source))
    }
}

static PUT: Statement = Statement::new(
    "INSERT INTO descriptions (module_key, description, stored_at) VALUES (?1, '', 0)",
);
static COUNT: Statement = Statement::new("SELECT count(*) FROM descriptions");

#[tokio::test]
async fn one_that_fails_does_not_disturb_those_that_share_its_transaction() {
    let (_folder, writer) = writer().await;
    let refuse = || StoreError::UnknownTask(7);
    let (a, b, c, d) = tokio::join!(
        writer.write(Put::new("a")),
        writer.write(Put::failing("b", usize::MAX, refuse)),
        writer.write(Put::new("c")),
        writer.write(Put::new("a")),
    );
    assert_eq!((a.unwrap(), c.unwrap()), (1, 2));
    assert!(matches!(b, Err(StoreError::UnknownTask(7))));
    assert!(d.unwrap_err().to_string().contains("putting"));
    assert_eq!(writer.write(Put::new("d")).await.unwrap(), 3);
}

#[tokio::test]
async fn a_connection_that_breaks_is_replaced_and_the_write_applied_again() {
    let (_folder, writer) = writer().await;
    let broken = || StoreError::sql("putting", sqlx::Error::WorkerCrashed);
    let once = Put::failing("a", 1, broken);
    let applied = Arc::clone(&once.applied);
    assert_eq!(writer.write(once).await.unwrap(), 1);
    assert_eq!(applied.load(Ordering::Relaxed), 2);
    let always = writer.write(Put::failing("b", usize::MAX, broken)).await;
    assert!(always.is_err());
    assert_eq!(writer.write(Put::new("c")).await.unwrap(), 2);
}

#[tokio::test]
async fn a_caller_that_goes_away_does_not_undo_its_write() {
    let (_folder, writer) = writer().await;
    {
        let write = writer.write(Put::new("a"));
        let _elapsed = tokio::time::timeout(Duration::ZERO, write).await;
    }
    assert_eq!(writer.write(Put::new("b")).await.unwrap(), 2);
}

#[tokio::test]
async fn after_the_end_writes_are_refused() {
    let (folder, writer) = writer().await;
    writer.write(Put::new("a")).await.unwrap();
    writer.close(std::future::ready(())).await;
    writer.close(std::future::ready(())).await;
    let refused = writer.write(Put::new("b")).await;
    assert!(matches!(refused, Err(StoreError::Closed)));
    assert!(!folder.path().join("db-wal").exists(), "the log was moved");
}
