//! Services of the tests' own: each on a port of its own with its data in a temporary folder, killed
//! at the end, also when a test panics.

mod cut;
mod database;
mod mariadb;
mod postgres;
mod redis;

pub use cut::Cut;
pub use database::Database;
pub use mariadb::MariadbServer;
pub use postgres::PostgresServer;
pub use redis::{RedisServer, Reply};

use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::unistd::{User, chown, geteuid};

/// How long a service may take to start.
const START: Duration = Duration::from_secs(60);

/// A port that nobody listens on. Not one of those that the system gives to connections, so that it
/// stays free while its service is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let begin = std::process::id().wrapping_mul(41);
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        let port = 20_000 + u16::try_from(number).unwrap_or_default();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Where a program is.
///
/// # Panics
/// If it is not installed; says what to install.
fn program(name: &str, folders: &[PathBuf]) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let paths = folders.iter().cloned().chain(std::env::split_paths(&path));
    let found = paths
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("{name} is missing: apt install postgresql mariadb-server redis-server")
    })
}

/// Lets a program of a service run as its usual user where it would refuse to run as root.
fn run_as(command: &mut Command, name: &str) {
    if let Some(user) = service_user(name) {
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
}

/// Gives a folder to the user as whom the service runs.
fn give_to(folder: &Path, name: &str) {
    if let Some(user) = service_user(name) {
        chown(folder, Some(user.uid), Some(user.gid)).expect("root may give folders away");
    }
}

fn service_user(name: &str) -> Option<User> {
    if !geteuid().is_root() {
        return None;
    }
    let user = User::from_name(name).ok().flatten();
    Some(user.unwrap_or_else(|| panic!("there is no user {name}: install the package that has it")))
}

/// Runs a command to its end; gives what it said.
///
/// # Panics
/// If it fails.
fn run(command: &mut Command) -> String {
    let shown = format!("{command:?}");
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {shown}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{shown} ended with {}:\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// Copies the data of a service, with its owner.
fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}
