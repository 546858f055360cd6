//! A Redis of the tests' own.

use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{START, free_port, program};
use crate::process::Process;
use crate::scratch::Scratch;
use crate::wait::eventually;

/// A Redis on a port of its own.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    folder: Scratch,
    args: Vec<String>,
    process: Mutex<Process>,
}

impl RedisServer {
    /// Starts one that keeps nothing on disk.
    pub fn start() -> Self {
        Self::start_with(&["--appendonly", "no"])
    }

    /// Starts one that writes each command to a file before it answers.
    pub fn start_with_aof() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"])
    }

    /// Starts one with more arguments.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start_with(args: &[&str]) -> Self {
        let port = free_port();
        let folder = Scratch::new();
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let process = Mutex::new(begin(port, &folder, &args));
        let server = Self {
            port,
            folder,
            args,
            process,
        };
        server.wait_until_up();
        server
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&self) {
        self.process().kill9();
    }

    /// Starts it again on what its disk has.
    pub fn restart(&self) {
        *self.process() = begin(self.port, &self.folder, &self.args);
        self.wait_until_up();
    }

    /// Halts it with SIGSTOP.
    pub fn halt(&self) {
        self.process().halt();
    }

    /// Lets it go on.
    pub fn go_on(&self) {
        self.process().go_on();
    }

    /// Sends a command and reads its answer.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> Reply {
        self.try_command(words)
            .unwrap_or_else(|e| panic!("Redis did not answer {words:?}: {e}"))
    }

    /// As [`command`](Self::command), where it may be down.
    ///
    /// # Errors
    /// There is no answer.
    pub fn try_command(&self, words: &[&str]) -> io::Result<Reply> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(text.as_bytes())?;
        Reply::read(&mut BufReader::new(stream))
    }

    /// The names of its keys that match a pattern.
    #[track_caller]
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        self.command(&["KEYS", pattern]).texts()
    }

    fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_until_up(&self) {
        eventually("Redis", START, || {
            match self.try_command(&["PING"]).ok()? {
                // A password may be wanted.
                Reply::Text(_) => Some(()),
                Reply::Error(text) if text.starts_with("NOAUTH") => Some(()),
                _ => None,
            }
        });
    }
}

fn begin(port: u16, folder: &Scratch, args: &[String]) -> Process {
    let mut command = Command::new(program("redis-server", &[]));
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--dir"])
        .arg(folder.path())
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Process::start(command)
}

/// What Redis answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
    /// Several answers.
    List(Vec<Reply>),
    /// There is no such thing.
    Nothing,
    /// What is wrong.
    Error(String),
}

impl Reply {
    fn read(stream: &mut impl BufRead) -> io::Result<Self> {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let (kind, rest) = line
            .trim_end()
            .split_at_checked(1)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let number = || rest.parse::<i64>().map_err(io::Error::other);
        Ok(match kind {
            "+" => Self::Text(rest.to_owned()),
            "-" => Self::Error(rest.to_owned()),
            ":" => Self::Number(number()?),
            "$" | "*" if rest == "-1" => Self::Nothing,
            "$" => {
                let length = usize::try_from(number()?).map_err(io::Error::other)?;
                let mut text = vec![0; length + 2];
                stream.read_exact(&mut text)?;
                text.truncate(length);
                Self::Text(String::from_utf8_lossy(&text).into_owned())
            }
            "*" => {
                let items = (0..number()?).map(|_| Self::read(stream));
                Self::List(items.collect::<io::Result<_>>()?)
            }
            other => return Err(io::Error::other(format!("{other:?} begins no answer"))),
        })
    }

    /// The number.
    ///
    /// # Panics
    /// If it is none.
    #[track_caller]
    pub fn number(&self) -> i64 {
        match self {
            Self::Number(number) => *number,
            other => panic!("no number: {other:?}"),
        }
    }

    /// The texts of a list.
    ///
    /// # Panics
    /// If it is no list of texts.
    #[track_caller]
    pub fn texts(&self) -> Vec<String> {
        let Self::List(items) = self else {
            panic!("no list: {self:?}")
        };
        let text = |item: &Self| match item {
            Self::Text(text) => text.clone(),
            other => panic!("no text: {other:?}"),
        };
        items.iter().map(text).collect()
    }
}
