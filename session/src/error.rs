//! What can go wrong with sessions.

use runner_host::HostError;
use uuid::Uuid;

/// Why a session, or something of it, is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// There is none of this id.
    #[error("Kernel does not exist: {0}")]
    Unknown(Uuid),
    /// There is no kernelspec of this name.
    #[error("there is no kernelspec {name:?}; expected one of {known}")]
    NoSpec {
        /// What was asked for.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Its kernelspec cannot be used as it is.
    #[error("the kernelspec {name} cannot be used: {why}")]
    BrokenSpec {
        /// Its name.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// As many live as may live.
    #[error("{0}")]
    Full(String),
    /// Its group has as many as it may have.
    #[error("{0}")]
    GroupFull(String),
    /// No kernel could be started.
    #[error("a kernel cannot be started: {0}")]
    Start(String),
    /// It has no folder.
    #[error("the session has no files: it has no kernel, which its next message starts")]
    NoFiles,
    /// The session has ended.
    #[error("the session has ended")]
    Ended,
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// A file of the session cannot be made.
    #[error("cannot {what} {path}: {source}")]
    File {
        /// The operation.
        what: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SessionError {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<std::path::PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}

impl From<HostError> for SessionError {
    fn from(error: HostError) -> Self {
        Self::Start(error.to_string())
    }
}
