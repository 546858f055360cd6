use std::path::PathBuf;

/// Why there is no clone, or no newer one. Nothing in it is a credential.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// A line of `GIT_PLUGINS` that cannot be used.
    #[error("{0}")]
    Malformed(String),
    /// The program is missing.
    #[error("the program git cannot be started: {0} (it fetches GIT_PLUGINS; install it)")]
    Program(std::io::Error),
    /// What git said when it failed.
    #[error("git {what} failed: {said}")]
    Failed {
        /// Its command.
        what: String,
        /// The end of its standard error.
        said: String,
    },
    /// The time is over.
    #[error("it took longer than {seconds} s, which is GIT_TIMEOUT")]
    TimedOut {
        /// The limit.
        seconds: f64,
    },
    /// The repository is larger than is taken.
    #[error("it has more than {0}")]
    TooLarge(String),
    /// A pinned commit is something else there.
    #[error("{asked} is no commit there, but {found}")]
    OtherCommit {
        /// What the source says.
        asked: String,
        /// What was sent.
        found: String,
    },
    /// What is named lies elsewhere.
    #[error("{path} leads out of the repository")]
    Leaves {
        /// In the repository.
        path: PathBuf,
    },
    /// What is named is not there.
    #[error("there is no {path} in the repository")]
    Missing {
        /// In the repository.
        path: PathBuf,
    },
    /// Nothing was fetched yet.
    #[error("it was not fetched yet: `runner plugin fetch` does, and so does a start")]
    Unknown,
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// The operation.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl GitError {
    pub(super) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
