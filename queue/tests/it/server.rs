//! Redis servers of the tests' own.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A redis-server in a folder of its own, on a Unix socket. Ends with this, and with the process of the
/// tests, however that ends.
pub(crate) struct Redis {
    folder: tempfile::TempDir,
    arguments: Vec<String>,
    running: Option<Running>,
}

struct Running {
    shell: Child,
    /// When this is closed, the shell kills the server.
    _stdin: ChildStdin,
    server: Pid,
}

/// The server that tests share which do not harm it.
pub(crate) static SHARED: LazyLock<Redis> = LazyLock::new(|| Redis::start(&[]));

impl Redis {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let mut redis = Self {
            folder: tempfile::tempdir().unwrap(),
            arguments: arguments.iter().map(|&it| it.to_owned()).collect(),
            running: None,
        };
        redis.up();
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    /// Starts it again, with the files that it left.
    pub(crate) fn up(&mut self) {
        let script = "command -v redis-server >/dev/null || exit 9; \
             redis-server \"$@\" >log 2>&1 & echo $!; read end; kill -9 $! 2>/dev/null";
        let mut shell = Command::new("sh")
            .args(["-c", script, "sh", "--port", "0", "--unixsocket"])
            .arg(self.socket())
            .args(["--save", "", "--enable-debug-command", "yes"])
            .args(&self.arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = shell.stdin.take().unwrap();
        let mut line = String::new();
        let stdout = shell.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let server = line
            .trim()
            .parse()
            .expect("redis-server is missing: apt install redis-server");
        self.running = Some(Running {
            shell,
            _stdin: stdin,
            server: Pid::from_raw(server),
        });
        let deadline = Instant::now() + Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(Instant::now() < deadline, "redis-server does not start");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.running.as_ref().unwrap().server, signal).unwrap();
    }

    /// Ends at once, as in a power failure.
    pub(crate) fn down(&mut self) {
        let Some(mut running) = self.running.take() else {
            return;
        };
        kill(running.server, Signal::SIGKILL).unwrap();
        drop(running._stdin);
        running.shell.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
    }

    /// Runs a command. Not under a password.
    pub(crate) fn command(&self, command: &[&str]) -> redis::Value {
        self.run(&self.url(), command)
    }

    /// Runs a command under a password.
    pub(crate) fn command_as(&self, password: &str, command: &[&str]) -> redis::Value {
        self.run(&format!("{}?pass={password}", self.url()), command)
    }

    fn run(&self, url: &str, command: &[&str]) -> redis::Value {
        let client = redis::Client::open(url).unwrap();
        redis::cmd(command[0])
            .arg(&command[1..])
            .query(&mut client.get_connection().unwrap())
            .unwrap()
    }

    fn socket(&self) -> std::path::PathBuf {
        let folder: &Path = self.folder.path();
        folder.join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.down();
    }
}
