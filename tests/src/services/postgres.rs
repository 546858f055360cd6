//! A PostgreSQL of the tests' own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use super::{START, copy, free_port, give_to, program, run, run_as};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::eventually;
use crate::{proc, wait};

/// The user as whom it runs when root starts it.
const USER: &str = "postgres";
/// A role that has to say its password, which is `right`.
const LOCKED: &str = "locked";

/// A PostgreSQL on a port of its own.
#[derive(Debug)]
pub struct PostgresServer {
    port: u16,
    folder: Scratch,
    process: Mutex<Process>,
}

impl PostgresServer {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        let folder = Scratch::new();
        copy(template(), &folder.path().join("data"));
        let port = free_port();
        let server = Self {
            port,
            process: Mutex::new(begin(port, &folder)),
            folder,
        };
        server.wait_until_up();
        server
    }

    /// Makes an empty database.
    pub fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.rows("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// The URL for a role that has to say its password.
    pub fn locked_url(&self, database: &str, password: &str) -> String {
        let port = self.port;
        format!("postgresql://{LOCKED}:{password}@127.0.0.1:{port}/{database}")
    }

    /// Runs SQL; gives the rows.
    ///
    /// # Panics
    /// If it is refused.
    pub fn rows(&self, database: &str, sql: &str) -> Vec<Vec<String>> {
        let text = run(self.psql(database).args(["-c", sql]));
        text.lines()
            .map(|line| line.split('\x1f').map(str::to_owned).collect())
            .collect()
    }

    /// Ends it, and all of its processes, with SIGKILL.
    pub fn kill9(&self) {
        let mut process = self.process();
        let backends = proc::descendants(process.pid());
        process.kill9();
        // They end when they see that they are orphans; until then the next start is refused.
        let left = proc::wait_until_gone(&backends, START);
        assert!(left.is_empty(), "backends outlive their postmaster");
    }

    /// Starts it again.
    pub fn restart(&self) {
        *self.process() = begin(self.port, &self.folder);
        self.wait_until_up();
    }

    fn psql(&self, database: &str) -> Command {
        let mut command = Command::new(program("psql", &folders()));
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-F",
                "\x1f",
                "-v",
                "ON_ERROR_STOP=1",
            ])
            .args(["-h", "127.0.0.1", "-U", USER, "-d", database])
            .args(["-p", &self.port.to_string()]);
        command
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_up(&self) {
        eventually("PostgreSQL", START, || {
            let mut psql = self.psql("postgres");
            psql.args(["-c", "SELECT 1"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            psql.status().ok()?.success().then_some(())
        });
    }
}

/// The URL of a database behind a port.
pub(super) fn url(port: u16, database: &str) -> String {
    format!("postgresql://{USER}@127.0.0.1:{port}/{database}")
}

/// Where distributions keep what is not in the path, the newest first.
fn folders() -> Vec<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter();
    let versions = versions
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"));
    let mut folders: Vec<_> = versions.collect();
    folders.sort();
    folders.reverse();
    folders
}

/// A data folder as `initdb` makes it, with the roles that tests need; made once, then copied.
fn template() -> &'static std::path::Path {
    static TEMPLATE: OnceLock<Scratch> = OnceLock::new();
    let folder = TEMPLATE.get_or_init(|| {
        let folder = Scratch::new();
        give_to(folder.path(), USER);
        let data = folder.path().join("data");
        let mut initdb = Command::new(program("initdb", &folders()));
        run_as(&mut initdb, USER);
        run(initdb.current_dir("/").arg("-D").arg(&data).args([
            "-U",
            USER,
            "-A",
            "trust",
            "--no-sync",
            "-E",
            "UTF8",
            "--locale=C",
        ]));
        let rules = data.join("pg_hba.conf");
        let usual = std::fs::read_to_string(&rules).expect("initdb wrote it");
        let locked = format!("host all {LOCKED} 127.0.0.1/32 scram-sha-256\n{usual}");
        std::fs::write(&rules, locked).expect("it can be written");
        let mut single = Command::new(program("postgres", &folders()));
        run_as(&mut single, USER);
        single.current_dir("/").args(["--single", "-D"]).arg(&data);
        single.arg("postgres").stdin(Stdio::piped());
        make_role(single);
        folder
    });
    static DATA: OnceLock<PathBuf> = OnceLock::new();
    DATA.get_or_init(|| folder.path().join("data"))
}

fn make_role(mut single: Command) {
    use std::io::Write;
    single.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = single.spawn().expect("postgres can be started");
    let sql = format!("CREATE ROLE {LOCKED} LOGIN SUPERUSER PASSWORD 'right'\n");
    let stdin = child.stdin.take();
    let told = stdin.expect("it is piped").write_all(sql.as_bytes());
    told.expect("postgres reads what it is to do");
    let ended = wait::poll(Duration::from_secs(20), || child.try_wait().ok().flatten());
    assert!(ended.is_some_and(|status| status.success()), "no role");
}

fn begin(port: u16, folder: &Scratch) -> Process {
    let mut command = Command::new(program("postgres", &folders()));
    run_as(&mut command, USER);
    command
        .current_dir("/")
        .arg("-D")
        .arg(folder.path().join("data"))
        .args(["-p", &port.to_string(), "-h", "127.0.0.1", "-k", ""])
        // What is committed survives the processes, which is all that is killed here.
        .args(["-c", "fsync=off", "-c", "max_connections=200"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(command)
}
