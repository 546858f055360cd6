//! The program `git`, held tightly.
//!
//! It hears nothing of the machine's and the account's configuration but what is named here: no hooks, no filters, no
//! credential helpers, no rewriting of URLs, no submodules. It may speak one protocol, that of its URL, also after a
//! redirect. It asks nobody. Credentials are not in its arguments, which all accounts of the machine can read, nor in a
//! file: git asks for them, for this host alone, and gets them from its environment. When its time is over, or when
//! nobody waits for it any more, all that it started is killed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;
use tokio::time::Instant;
use url::Url;

use super::GitError;
use super::source::Credentials;

/// Bytes of what it writes that are looked at.
const MAX_SAID: u64 = 64 * 1024;
/// Bytes of the end of its errors that are told.
const TOLD: usize = 1_000;
/// How often the size of what it fetches is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Bytes that a repository may have on the disk while it is fetched.
const MAX_SIZE: u64 = 2 << 30;

/// Variables that it inherits: where programs are, how other machines are reached.
const INHERITED: &[&str] = &[
    "PATH",
    "HOME",
    "TMPDIR",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "GIT_SSL_CAINFO",
    "http_proxy",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
];

/// What is said once and for all.
const FIXED: &[(&str, &str)] = &[
    ("LC_ALL", "C"),
    ("GIT_CONFIG_NOSYSTEM", "1"),
    ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ("GIT_ATTR_NOSYSTEM", "1"),
    ("GIT_TERMINAL_PROMPT", "0"),
    ("GIT_ASKPASS", ""),
    ("GIT_NO_LAZY_FETCH", "1"),
    ("GIT_OPTIONAL_LOCKS", "0"),
    ("GIT_SSH_VARIANT", "ssh"),
];

/// Its configuration.
const CONFIGURATION: &[(&str, &str)] = &[
    ("core.hooksPath", "/dev/null"),
    ("core.fsmonitor", "false"),
    ("core.autocrlf", "false"),
    ("protocol.version", "2"),
    ("submodule.recurse", "false"),
    ("fetch.recurseSubmodules", "false"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("http.lowSpeedLimit", "1000"),
    ("http.lowSpeedTime", "20"),
    ("advice.detachedHead", "false"),
];

/// Answers git's question for user and password.
const HELPER: &str = "!f() { test \"$1\" = get && printf 'username=%s\\npassword=%s\\n' \
                      \"$RUNNER_GIT_USER\" \"$RUNNER_GIT_PASSWORD\"; }; f";

/// One conversation with a repository.
pub(super) struct Git<'a> {
    /// Where it is, without credentials.
    pub(super) url: &'a Url,
    pub(super) credentials: Option<&'a Credentials>,
    /// The folder that it works in.
    pub(super) folder: &'a Path,
    pub(super) deadline: Instant,
    /// The whole time, for the message.
    pub(super) timeout: Duration,
}

impl Git<'_> {
    /// Runs a command in the folder; answers what it wrote.
    pub(super) async fn run<A: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<String, GitError> {
        let arguments: Vec<A> = arguments.into_iter().collect();
        let what = arguments
            .iter()
            .map(|argument| argument.as_ref().to_string_lossy())
            .find(|argument| !argument.starts_with('-'))
            .map_or_else(String::new, |command| command.into_owned());
        let mut command = Command::new("git");
        command
            .current_dir(self.folder)
            .args(&arguments)
            .env_clear()
            .envs(self.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(GitError::Program)?;
        let mut group = Group(child.id());
        let (output, errors) = (child.stdout.take(), child.stderr.take());
        let ended = async {
            let (output, errors, status) = tokio::join!(read(output), read(errors), child.wait());
            (output, errors, status)
        };
        let (output, errors, status) = tokio::select! {
            ended = ended => ended,
            stopped = self.until_stopped() => return Err(stopped),
        };
        group.0 = None;
        let status = status.map_err(GitError::Program)?;
        match status.success() {
            true => Ok(String::from_utf8_lossy(&output).trim().to_owned()),
            false => Err(GitError::Failed {
                what,
                said: self.without_credentials(&String::from_utf8_lossy(&errors)),
            }),
        }
    }

    /// Waits for a reason to end it.
    async fn until_stopped(&self) -> GitError {
        loop {
            let next = (Instant::now() + LOOK).min(self.deadline);
            tokio::time::sleep_until(next).await;
            if next == self.deadline {
                return GitError::TimedOut {
                    seconds: self.timeout.as_secs_f64(),
                };
            }
            let folder = self.folder.to_owned();
            let size = tokio::task::spawn_blocking(move || super::tree::size(&folder)).await;
            if size.is_ok_and(|size| size > MAX_SIZE) {
                return GitError::TooLarge(format!("{MAX_SIZE} bytes"));
            }
        }
    }

    fn variables(&self) -> Vec<(String, String)> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let inherited = INHERITED
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)));
        let mut variables: Vec<(String, String)> = inherited.collect();
        let has = |name: &str| variables.iter().any(|(other, _)| other == name);
        let mut more = Vec::new();
        if !has("GIT_SSH_COMMAND") {
            more.push((
                "GIT_SSH_COMMAND".to_owned(),
                "ssh -o BatchMode=yes".to_owned(),
            ));
        }
        if !has("GIT_SSL_CAINFO")
            && let Ok(file) = std::env::var("SSL_CERT_FILE")
        {
            more.push(("GIT_SSL_CAINFO".to_owned(), file));
        }
        more.extend(FIXED.iter().map(owned));
        more.push((
            "GIT_ALLOW_PROTOCOL".to_owned(),
            self.url.scheme().to_owned(),
        ));
        let mut configuration: Vec<(String, String)> = CONFIGURATION.iter().map(owned).collect();
        if let Some(credentials) = self.credentials {
            let origin = self.url.origin().ascii_serialization();
            configuration.push((format!("credential.{origin}.helper"), HELPER.to_owned()));
            more.push(("RUNNER_GIT_USER".to_owned(), credentials.user.clone()));
            more.push((
                "RUNNER_GIT_PASSWORD".to_owned(),
                credentials.password.clone(),
            ));
        }
        more.push((
            "GIT_CONFIG_COUNT".to_owned(),
            configuration.len().to_string(),
        ));
        for (number, (key, value)) in configuration.into_iter().enumerate() {
            more.push((format!("GIT_CONFIG_KEY_{number}"), key));
            more.push((format!("GIT_CONFIG_VALUE_{number}"), value));
        }
        variables.extend(more);
        variables
    }

    /// The end of what it said, in one line. A server may say anything, also what it was told.
    fn without_credentials(&self, said: &str) -> String {
        let mut said = said.replace(self.url.as_str(), &crate::redact(self.url.as_str()));
        if let Some(credentials) = self.credentials {
            for secret in [&credentials.password, &credentials.user] {
                if !secret.is_empty() {
                    said = said.replace(secret.as_str(), "***");
                }
            }
        }
        let lines: Vec<&str> = said
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        let mut told: String = lines
            .join("; ")
            .chars()
            .map(|c| if c.is_control() { '\u{fffd}' } else { c })
            .collect();
        if told.len() > TOLD {
            let begin = told.ceil_char_boundary(told.len() - TOLD);
            told = format!("…{}", &told[begin..]);
        }
        told
    }
}

/// All that was started, killed when it is dropped.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = killpg(Pid::from_raw(leader), Signal::SIGKILL);
        }
    }
}

/// The beginning of a stream, which is read to its end.
async fn read(stream: Option<impl AsyncRead + Unpin>) -> Vec<u8> {
    let mut kept = Vec::new();
    if let Some(mut stream) = stream {
        let mut limited = (&mut stream).take(MAX_SAID);
        // What cannot be read was not said.
        let _ = limited.read_to_end(&mut kept).await;
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}
