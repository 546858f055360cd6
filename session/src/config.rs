//! How many sessions there may be, for how long, and how much each may use.

use std::borrow::Cow;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

/// Settings of sessions.
#[derive(Debug, Clone)]
pub struct SessionsConfig {
    /// Where each session has a folder with its log.
    pub folder: PathBuf,
    /// The Python interpreter of kernels.
    pub python: String,
    /// Modules that the zygote loads, so that kernels have them at once.
    pub preload: Vec<String>,
    /// Names of kernelspecs of Jupyter that there are beside the runner's own; `*` stands for all.
    pub kernelspecs: Vec<String>,
    /// How long a kernel of such a kernelspec may take to answer.
    pub kernel_start: Duration,
    /// Kernels that are forked before anybody asks for one.
    pub warm: usize,
    /// Sessions that may live at a time.
    pub most: usize,
    /// Sessions that one client (a token's subject, else an address) may have at a time; 0 is no limit of its own.
    pub most_of_client: usize,
    /// How long a new session waits for its client.
    pub connect: Duration,
    /// How long a session without messages lives.
    pub idle: Duration,
    /// How long an idle session lives after its last client has left.
    pub left: Duration,
    /// How long a busy session lives after its last client has left.
    pub unattended: Duration,
    /// How long a session lives at most.
    pub lifetime: Duration,
    /// What kernels may use.
    pub limits: KernelLimits,
    /// Processes and threads of one session at a time.
    pub processes: u64,
    /// Bytes of the files of all sessions together, where they lie in memory.
    pub files: u64,
    /// Bytes of the files of one session; `None` is no limit of its own.
    pub files_of_session: Option<u64>,
    /// How long a cell may run; it is interrupted then, and its kernel ended if that does not help. `None` is no limit.
    pub cell_time: Option<Duration>,
    /// Whether kernels may use the network.
    pub network: bool,
    /// Bytes of output of one cell that go to clients as messages; what is beyond goes into a file.
    pub cell_output: u64,
    /// Bytes of the files of output of one session; a cell that puts out more is interrupted, and then its kernel
    /// ended.
    pub spill: u64,
    /// Bytes of the log of a session; what is older is dropped from it.
    pub log: u64,
    /// For whom sessions are.
    pub face: Face,
    /// Sessions of one group (see [`crate::Wish`]) at a time; 0 is no limit of its own.
    pub most_of_group: usize,
    /// Kernels for single cells at a time, beside those of sessions.
    pub once: usize,
}

/// For whom sessions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Face {
    /// Clients of Jupyter: a session outlives its kernels.
    #[default]
    Jupyter,
    /// Clients of Sage Cell: kernels have what these expect, say how long they may be idle, and take their session
    /// along when they end. Nothing is kept over a restart.
    SageCell,
}

impl Face {
    /// Its name in numbers.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Jupyter => "jupyter",
            Self::SageCell => "sage_cell",
        }
    }

    /// A text with the names of settings, as they are called here.
    pub(crate) fn named(self, text: &str) -> Cow<'_, str> {
        match self {
            Self::Jupyter => text.into(),
            Self::SageCell => {
                // One setting there stands for three here.
                let text = text.replace("SESSION_CONNECT", "SESSION_LEFT");
                let text = text.replace("SESSION_UNATTENDED", "SESSION_LEFT");
                let text = text.replace("SESSION_CELL_TIME", "SESSION_TIME");
                text.replace("SESSION_", "SAGE_CELL_").into()
            }
        }
    }
}

/// What a kernel may use; `None` is no limit.
#[derive(Debug, Clone, Default, Serialize)]
pub struct KernelLimits {
    /// Bytes of private memory, each of its processes.
    pub memory: Option<u64>,
    /// Seconds of processor time, each of its processes.
    pub cpu_seconds: Option<u64>,
    /// Bytes of the largest file it may write.
    pub file_size: Option<u64>,
}

impl Default for SessionsConfig {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("sessions"),
            python: "python3".to_owned(),
            preload: Vec::new(),
            kernelspecs: Vec::new(),
            kernel_start: Duration::from_secs(60),
            warm: 2,
            most: 200,
            most_of_client: 0,
            connect: Duration::from_secs(60),
            idle: Duration::from_secs(3600),
            left: Duration::from_secs(600),
            unattended: Duration::from_secs(3600),
            lifetime: Duration::from_secs(86400),
            limits: KernelLimits::default(),
            processes: 256,
            files: 2 << 30,
            files_of_session: Some(1 << 30),
            cell_time: None,
            network: false,
            cell_output: 8 << 20,
            spill: 1 << 30,
            log: 64 << 20,
            face: Face::default(),
            most_of_group: 0,
            once: 0,
        }
    }
}
