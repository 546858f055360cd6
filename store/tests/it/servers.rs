//! The servers that tests use: those that the environment names, else those on the usual ports, else own ones.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sqlx::{Connection, MySqlConnection, PgConnection};
use tempfile::TempDir;
use tokio::sync::OnceCell;

/// The same server with another database.
pub(crate) fn with_database(server: &str, database: &str) -> String {
    let (address, query) = server.split_once('?').unwrap_or((server, ""));
    let (address, _) = address.rsplit_once('/').unwrap();
    match query {
        "" => format!("{address}/{database}"),
        query => format!("{address}/{database}?{query}"),
    }
}

/// The same database of PostgreSQL with its tables in another schema.
pub(crate) fn with_schema(server: &str, schema: &str) -> String {
    let separator = if server.contains('?') { '&' } else { '?' };
    format!("{server}{separator}options=-c%20search_path%3D{schema}")
}

/// The URL of a superuser of PostgreSQL.
pub(crate) async fn postgres() -> String {
    static SERVER: OnceCell<String> = OnceCell::const_new();
    let find = || async {
        if let Ok(url) = std::env::var("RUNNER_TEST_POSTGRES") {
            return url;
        }
        let usual = "postgres://postgres@127.0.0.1:5432/postgres".to_owned();
        match PgConnection::connect(&usual).await {
            Ok(_) => usual,
            Err(_) => keep(Server::postgres().await),
        }
    };
    SERVER.get_or_init(find).await.clone()
}

/// The URL of a superuser of MariaDB or MySQL.
pub(crate) async fn mysql() -> String {
    static SERVER: OnceCell<String> = OnceCell::const_new();
    let find = || async {
        if let Ok(url) = std::env::var("RUNNER_TEST_MYSQL") {
            return url;
        }
        let usual = "mysql://root@127.0.0.1:3306/mysql".to_owned();
        match MySqlConnection::connect(&usual).await {
            Ok(_) => usual,
            Err(_) => keep(Server::mysql().await),
        }
    };
    SERVER.get_or_init(find).await.clone()
}

/// Lets a server live as long as the tests: it ends with them, and its folder is removed then.
fn keep(server: Server) -> String {
    let url = server.url.clone();
    // The end of the process drops no statics; who started it ends it, see `Server::command`.
    std::mem::forget(server);
    url
}

/// That of a PostgreSQL of a test's own.
const PASSWORD: &str = "of-the-tests";

/// A server of a test's own.
pub(crate) struct Server {
    pub(crate) url: String,
    program: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
    folder: TempDir,
}

impl Server {
    pub(crate) async fn postgres() -> Self {
        let programs = ["/usr/lib/postgresql", "/usr/local/pgsql", "/usr/bin"];
        let program = find(&programs, "postgres", "apt install postgresql");
        let folder = folder();
        let data = folder.path().join("data");
        let mut initdb = Command::new(program.with_file_name("initdb"));
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).unwrap();
        initdb
            .args(["--auth-local=trust", "--auth-host=scram-sha-256"])
            .args(["--username=postgres", "--encoding=UTF8", "--pwfile"])
            .arg(&password)
            .arg("-D")
            .arg(&data);
        done(initdb, &folder);
        let port = free_port();
        let arguments = [
            "-D",
            &data.display().to_string(),
            "-p",
            &port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-k",
            &folder.path().display().to_string(),
        ];
        let url = format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/postgres");
        Self::start(url, program, arguments.map(str::to_owned).to_vec(), folder).await
    }

    pub(crate) async fn mysql() -> Self {
        let programs = ["/usr/sbin", "/usr/bin", "/usr/local/bin"];
        let program = find(&programs, "mariadbd", "apt install mariadb-server");
        let folder = folder();
        let data = folder.path().join("data");
        let mut install = Command::new("mariadb-install-db");
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal"])
            .arg("--skip-test-db")
            .arg(format!("--datadir={}", data.display()));
        done(install, &folder);
        let port = free_port();
        let arguments = [
            "--no-defaults".to_owned(),
            format!("--datadir={}", data.display()),
            format!("--port={port}"),
            "--bind-address=127.0.0.1".to_owned(),
            format!("--socket={}", folder.path().join("s").display()),
            format!("--pid-file={}", folder.path().join("pid").display()),
            "--innodb-buffer-pool-size=64M".to_owned(),
        ];
        let url = format!("mysql://root@127.0.0.1:{port}/mysql");
        Self::start(url, program, arguments.to_vec(), folder).await
    }

    async fn start(url: String, program: PathBuf, arguments: Vec<String>, folder: TempDir) -> Self {
        let mut server = Self {
            url,
            program,
            arguments,
            child: None,
            folder,
        };
        server.restart().await;
        server
    }

    /// Starts it again, and waits until it answers.
    pub(crate) async fn restart(&mut self) {
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        as_owner(&mut command);
        // A server does not outlive the tests that started it.
        let parent = std::process::id();
        // SAFETY: both are system calls without memory of their own.
        unsafe {
            command.pre_exec(move || {
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                match nix::unistd::getppid().as_raw() == parent.cast_signed() {
                    true => Ok(()),
                    false => Err(std::io::Error::other("the tests have ended")),
                }
            });
        }
        // The signal comes when the thread ends that started it, so that thread stays.
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            sender.send(command.spawn()).unwrap();
            loop {
                std::thread::park();
            }
        });
        self.child = Some(receiver.recv().unwrap().unwrap());
        let begin = Instant::now();
        while !self.answers().await {
            if begin.elapsed() > Duration::from_secs(60) {
                let log = std::fs::read_to_string(self.folder.path().join("log"));
                panic!("the server does not start: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn answers(&self) -> bool {
        match self.url.starts_with("mysql") {
            true => MySqlConnection::connect(&self.url).await.is_ok(),
            false => PgConnection::connect(&self.url).await.is_ok(),
        }
    }

    /// Ends it as a power cut would end its process.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A folder that the owner of a server may write.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    if let Some((user, group)) = owner() {
        std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
    }
    folder
}

/// Servers refuse root: then they belong to the user `nobody`, who is everywhere.
fn owner() -> Option<(u32, u32)> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    let user = nix::unistd::User::from_name("nobody").unwrap().unwrap();
    Some((user.uid.as_raw(), user.gid.as_raw()))
}

fn as_owner(command: &mut Command) {
    if let Some((user, group)) = owner() {
        command.uid(user).gid(group);
    }
}

fn done(mut command: Command, folder: &TempDir) {
    as_owner(&mut command);
    command.current_dir(folder.path());
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?} cannot be called: {error}"));
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A program in one of these folders, or in the newest version below it.
fn find(folders: &[&str], program: &str, install: &str) -> PathBuf {
    for folder in folders {
        let mut found = vec![Path::new(folder).join(program)];
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            found.push(entry.path().join("bin").join(program));
        }
        found.retain(|path| path.is_file());
        found.sort();
        if let Some(path) = found.pop() {
            return path;
        }
    }
    panic!(
        "no {program} is installed and none runs here: {install}, or set RUNNER_TEST_POSTGRES and RUNNER_TEST_MYSQL"
    );
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
