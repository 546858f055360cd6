//! A MariaDB of the tests' own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::{START, copy, free_port, give_to, program, run, run_as};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// The user as whom it runs when root starts it.
const USER: &str = "mysql";

/// A MariaDB on a port of its own.
#[derive(Debug)]
pub struct MariadbServer {
    port: u16,
    folder: Scratch,
    process: Mutex<Process>,
}

impl MariadbServer {
    /// Starts one.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start() -> Self {
        let folder = Scratch::new();
        give_to(folder.path(), USER);
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
        self.rows("mysql", &format!("CREATE DATABASE {name}"));
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

    /// Runs SQL; gives the rows.
    ///
    /// # Panics
    /// If it is refused.
    pub fn rows(&self, database: &str, sql: &str) -> Vec<Vec<String>> {
        let text = run(self.client(database).args(["-e", sql]));
        let value = |text: &str| match text {
            "NULL" => String::new(),
            text => text.to_owned(),
        };
        text.lines()
            .map(|line| line.split('\t').map(value).collect())
            .collect()
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// Starts it again.
    pub fn restart(&self) {
        *self.process() = begin(self.port, &self.folder);
        self.wait_until_up();
    }

    fn client(&self, database: &str) -> Command {
        let mut command = Command::new(program("mariadb", &[]));
        command
            .args(["--no-defaults", "-N", "-B", "-h", "127.0.0.1", "-u", "root"])
            .args(["-P", &self.port.to_string(), database]);
        command
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_up(&self) {
        eventually("MariaDB", START, || {
            let mut client = self.client("mysql");
            client
                .args(["-e", "SELECT 1"])
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            client.status().ok()?.success().then_some(())
        });
    }
}

/// The URL of a database behind a port.
pub(super) fn url(port: u16, database: &str) -> String {
    format!("mysql://root@127.0.0.1:{port}/{database}")
}

fn folders() -> Vec<PathBuf> {
    vec![PathBuf::from("/usr/sbin")]
}

/// A data folder with nothing but its own tables; made once, then copied.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, data) = TEMPLATE.get_or_init(|| {
        let folder = Scratch::new();
        give_to(folder.path(), USER);
        let data = folder.path().join("data");
        let mut install = Command::new(program("mariadb-install-db", &[]));
        run(install
            .arg("--no-defaults")
            .arg(format!("--datadir={}", data.display()))
            .args(["--auth-root-authentication-method=normal", "--skip-test-db"])
            .args(["--innodb-log-file-size=16M", "--innodb-flush-method=nosync"])
            .arg(format!("--user={}", user())));
        (folder, data)
    });
    data
}

fn user() -> String {
    super::service_user(USER).map_or_else(whoami, |user| user.name)
}

fn whoami() -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid());
    user.ok()
        .flatten()
        .map(|user| user.name)
        .unwrap_or_default()
}

fn begin(port: u16, folder: &Scratch) -> Process {
    let data = folder.path().join("data");
    let mut command = Command::new(program("mariadbd", &folders()));
    run_as(&mut command, USER);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}", data.join("socket").display()))
        .arg(format!("--pid-file={}", data.join("pid").display()))
        .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
        .arg(format!("--port={port}"))
        .args(["--innodb-log-file-size=16M", "--max-connections=200"])
        // What is committed survives the process, which is all that is killed here.
        .arg("--innodb-flush-log-at-trx-commit=2")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(command)
}
