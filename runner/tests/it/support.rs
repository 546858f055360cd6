//! The program, its folders, and what it said.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long anything may take on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// An account that nobody has.
const USER: u32 = 64_997;

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A folder to work in, with a folder `plugins`.
#[derive(Debug)]
pub(crate) struct Desk {
    folder: TempDir,
    /// How much of the sandbox commands use, unless that is left to them.
    pub(crate) sandbox: Option<&'static str>,
    /// The account that runs them, which owns the folder.
    account: Option<u32>,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// Its standard output as a document.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }

    /// Fails unless it succeeded.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:#?}");
        self
    }

    /// Fails unless it ended with this code and said this on standard error.
    pub(crate) fn failed(self, code: i32, part: &str) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(self.err.contains(part), "{part:?} is not in {self:#?}");
        assert!(!self.err.contains("panicked"), "{self:#?}");
        self
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Desk {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("desk-").tempdir().unwrap();
        // Hosts have another account than root.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir_all(folder.path().join("plugins")).unwrap();
        std::fs::create_dir_all(folder.path().join("tmp")).unwrap();
        Self {
            folder,
            sandbox: None,
            account: None,
        }
    }

    /// Desks for both kinds of sandbox, and for this account and, where this is root, an ordinary one.
    pub(crate) fn everywhere() -> Vec<Self> {
        let accounts = match nix::unistd::geteuid().is_root() {
            true => vec![None, Some(USER)],
            false => vec![None],
        };
        let desk = |sandbox, account| Self {
            sandbox: Some(sandbox),
            account,
            ..Self::new()
        };
        let of = |account| ["auto", "basic"].map(|sandbox| desk(sandbox, account));
        accounts.into_iter().flat_map(of).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, and the folders it lies in.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    /// Writes an executable.
    pub(crate) fn write_executable(&self, name: &str, text: &str) -> PathBuf {
        let path = self.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// The command in this folder, with no settings but these.
    pub(crate) fn command<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let Some(account) = self.account else {
            return self.other(env!("CARGO_BIN_EXE_runner"), arguments);
        };
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self.folder.path(), mode).unwrap();
        own(self.folder.path(), account);
        let id = |kind: &str| format!("--{kind}={account}");
        let mut command = self.other(
            "setpriv",
            [&id("reuid"), &id("regid"), "--clear-groups", "--"],
        );
        command.arg(env!("CARGO_BIN_EXE_runner")).args(
            arguments
                .into_iter()
                .map(|argument| argument.as_ref().to_owned()),
        );
        command
    }

    /// Another program in this folder.
    pub(crate) fn other<A: AsRef<OsStr>>(
        &self,
        program: &str,
        arguments: impl IntoIterator<Item = A>,
    ) -> Command {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.path("tmp"))
            .stdin(Stdio::null());
        if let Some(sandbox) = self.sandbox {
            command.env("SANDBOX", sandbox);
        }
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
        }
        command
    }

    /// Runs the command to its end.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Said {
        self.command(arguments).output().unwrap().into()
    }

    /// Temporary files of the command that are left.
    pub(crate) fn leftovers(&self) -> Vec<PathBuf> {
        std::fs::read_dir(self.path("tmp"))
            .unwrap()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }

    /// Starts `runner up` and waits until it is ready.
    pub(crate) fn up(&self) -> Server {
        let mut child = self
            .command(["up", "--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = child.stdout.take().unwrap();
        let (ready, is_ready) = channel();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(out).lines();
            let line = lines.next().and_then(Result::ok).unwrap_or_default();
            let _ = ready.send(line);
            lines.for_each(drop);
        });
        let line = is_ready.recv_timeout(LONG).unwrap();
        let url = line
            .strip_prefix("runner is ready at ")
            .unwrap()
            .trim_end_matches('/')
            .to_owned();
        Server { child, url }
    }
}

/// A runner that serves, until it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts a task. Answers its number.
    pub(crate) fn start(&self, plugin: &str, body: &Value) -> i64 {
        let address = self.url.strip_prefix("http://").unwrap();
        let body = body.to_string();
        let request = format!(
            "POST /plugins/{plugin}/process/ HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let location = answer
            .split_once("/tasks/")
            .unwrap_or_else(|| panic!("{answer}"))
            .1;
        location.split('/').next().unwrap().parse().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives a file or a folder with all in it to an account. What a host that ends removes meanwhile is passed over.
fn own(path: &Path, account: u32) {
    let is_gone = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    match lchown(path, Some(account), Some(account)) {
        Err(error) if !is_gone(&error) => panic!("{}: {error}", path.display()),
        _ => {}
    }
    if path.is_symlink() || !path.is_dir() {
        return;
    }
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().for_each(|one| own(&one.path(), account)),
        Err(error) => assert!(is_gone(&error), "{}: {error}", path.display()),
    }
}

/// Waits until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < LONG, "not within {LONG:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Living processes whose command line has this text.
pub(crate) fn processes(text: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| {
        entry.file_name().to_str()?.parse::<i32>().ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains(text).then_some(line)
    });
    lines.collect()
}

/// A plugin with what the tests need: success, failure, files, progress, and a run that never ends.
pub(crate) const PLUGIN: &str = r#"
import subprocess
import sys
import time
from runner import Data, Integer, Output, Text, Upload, plugin


@plugin(version="1.0.0", tags=["test"], outputs=[Output("text/loud", "text/plain")], example={"text": "hi"})
def shout(task, text: Text("The text"), times: Integer(minimum=1) = 1):
    """Says it louder."""
    task.log("first line")
    task.progress(1, target=2, unit="steps")
    task.output("out.txt", text.upper() * times, data_type="text/loud", content_type="text/plain")
    return "done"


@plugin(version="1.0.0")
def fail(task):
    raise ValueError("on purpose")


@plugin(version="1.0.0")
def count(task, data: Data("*", ["text/plain"]), more: Upload() = None):
    with open(data.path) as file:
        task.output("copy.txt", file.read(), data_type="x", content_type="text/plain")
    task.output("copy.txt", data.name, data_type="x", content_type="text/plain")
    return f"{data.size} bytes and {more.size if more else 0}"


@plugin(version="1.0.0")
def sleep(task, mark: str):
    subprocess.Popen(["sleep", mark])
    task.log("asleep")
    time.sleep(600)


@plugin(version="1.0.0")
def steal(task, path: str):
    task.fetch(path)


@plugin(version="1.0.0")
def chain(task):
    return "called: " + task.call("ask", name="you").log


@plugin(version="1.0.0")
def ask(task, name: str):
    task.data["name"] = name
    task.step("greeting", word="hello")


@ask.step("greeting", title="How to greet")
def greeting(task, word: str, times: Integer(maximum=3) = 1):
    return f"{word * times} {task.data['name']}"
"#;
