//! An installation: its Redis, its database, its processes.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use runner_tests::runner::Builder;
use runner_tests::scratch::Scratch;
use runner_tests::services::{Cut, Database, MariadbServer, PostgresServer, RedisServer};
use runner_tests::{Runner, Worker};

/// Seconds that a process may be silent before others take over.
pub(crate) const LEASE: u64 = 2;
/// Runs at a time of each worker.
pub(crate) const CONCURRENCY: u32 = 4;
/// The plugins of these tests.
const PLUGINS: [&str; 2] = ["stable_plugins/demo", "tests/fixtures/cluster"];

/// What the processes of an installation share.
pub(crate) struct Site {
    pub(crate) redis: Arc<RedisServer>,
    pub(crate) database: Database,
    pub(crate) queue: String,
    pub(crate) plugins: Vec<PathBuf>,
    /// `None`: each process has an instance folder of its own, as on several machines.
    instance: Option<PathBuf>,
    files: PathBuf,
    _folder: Scratch,
}

/// The PostgreSQL of all tests that do not kill it.
pub(crate) fn postgres() -> &'static Arc<PostgresServer> {
    static SERVER: OnceLock<Arc<PostgresServer>> = OnceLock::new();
    SERVER.get_or_init(|| Arc::new(PostgresServer::start()))
}

/// The MariaDB of all tests that do not kill it.
pub(crate) fn mariadb() -> &'static Arc<MariadbServer> {
    static SERVER: OnceLock<Arc<MariadbServer>> = OnceLock::new();
    SERVER.get_or_init(|| Arc::new(MariadbServer::start()))
}

/// The Redis of all tests that do not harm it.
pub(crate) fn redis() -> &'static Arc<RedisServer> {
    static SERVER: OnceLock<Arc<RedisServer>> = OnceLock::new();
    SERVER.get_or_init(|| Arc::new(RedisServer::start()))
}

impl Site {
    /// On Redis and PostgreSQL.
    pub(crate) fn postgres() -> Self {
        Self::on(Database::postgres(postgres()))
    }

    /// On Redis and MariaDB.
    pub(crate) fn mariadb() -> Self {
        Self::on(Database::mariadb(mariadb()))
    }

    /// On Redis and SQLite, all processes in one instance folder.
    pub(crate) fn sqlite() -> Self {
        let folder = Scratch::new();
        let instance = folder.path().join("instance");
        let database = Database::Sqlite(instance.join("runner.sqlite"));
        Self {
            files: instance.join("files"),
            instance: Some(instance),
            ..Self::new(folder, database)
        }
    }

    /// On Redis and this database.
    pub(crate) fn on(database: Database) -> Self {
        Self::new(Scratch::new(), database)
    }

    fn new(folder: Scratch, database: Database) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let root = runner_tests::repository("");
        Self {
            redis: Arc::clone(redis()),
            database,
            queue: format!("queue-{}", NEXT.fetch_add(1, Ordering::Relaxed)),
            plugins: PLUGINS.iter().map(|folder| root.join(folder)).collect(),
            instance: None,
            files: folder.path().join("files"),
            _folder: folder,
        }
    }

    /// With a Redis of its own.
    pub(crate) fn with_redis(self, redis: RedisServer) -> Self {
        Self {
            redis: Arc::new(redis),
            ..self
        }
    }

    /// With another file store.
    pub(crate) fn with_files(self, files: &Path) -> Self {
        Self {
            files: files.to_owned(),
            ..self
        }
    }

    /// The file store.
    pub(crate) fn files(&self) -> &Path {
        &self.files
    }

    /// What every process of it is started with, but for the command.
    pub(crate) fn process(&self) -> Builder {
        self.process_via(&self.redis.url(), &self.database.url())
    }

    fn process_via(&self, redis: &str, database: &str) -> Builder {
        let builder = Runner::builder()
            .plugins(&self.plugins)
            .env("BROKER_URL", redis)
            .env("DATABASE_URL", database)
            .env("QUEUE", &self.queue)
            .env("WORKER_LEASE", LEASE)
            .env("CONCURRENCY", CONCURRENCY)
            .env("DISK_FLOOR", 0)
            .env("FILE_STORE_ROOT_PATH", self.files.display());
        match &self.instance {
            Some(instance) => builder.instance(instance),
            None => builder,
        }
    }

    /// A server.
    pub(crate) fn server(&self) -> Runner {
        self.process().server().start()
    }

    /// A worker.
    pub(crate) fn worker(&self) -> Worker {
        self.process().start_worker()
    }

    /// One that reaches Redis by this way.
    pub(crate) fn with_redis_via(&self, cut: &Cut) -> Builder {
        let redis = format!("redis://127.0.0.1:{}/0", cut.port());
        self.process_via(&redis, &self.database.url())
    }

    /// One that reaches the database by this way.
    pub(crate) fn with_database_via(&self, cut: &Cut) -> Builder {
        self.process_via(&self.redis.url(), &self.database.url_via(cut.port()))
    }
}

/// Makes a test on each database of a function that takes a site.
macro_rules! on_all_databases {
    ($name:ident) => {
        mod $name {
            #[test]
            fn on_sqlite() {
                super::$name(&crate::site::Site::sqlite());
            }

            #[test]
            fn on_postgres() {
                super::$name(&crate::site::Site::postgres());
            }

            #[test]
            fn on_mariadb() {
                super::$name(&crate::site::Site::mariadb());
            }
        }
    };
}

pub(crate) use on_all_databases;
