use std::path::PathBuf;

/// What can go wrong with modules and hosts. Each names what was attempted, and on what.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The launcher cannot be started or is gone.
    #[error("the launcher of plugin processes failed: {0}")]
    Launcher(String),
    /// A host's program cannot be started.
    #[error("the host cannot be started: {0}")]
    Start(String),
    /// A host was ended by somebody else than itself and the runner.
    #[error("{0}")]
    Killed(String),
    /// A host ended, or said what is no message.
    #[error("{0}")]
    Lost(String),
    /// A host answered with an error.
    #[error("{}", .0.text())]
    Refused(crate::protocol::RpcError),
    /// A host did not answer in time.
    #[error("no answer to {what} within {seconds} s")]
    TimedOut {
        /// The method.
        what: &'static str,
        /// The limit.
        seconds: f64,
    },
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
    /// Too much is asked of a module at once.
    #[error("{0}")]
    Busy(String),
    /// The module takes no more runs and requests: it has ended, or a newer version has taken its place.
    #[error("the module {0} is closed")]
    Closed(String),
    /// What a module is loaded from cannot be had just now.
    #[error("{0}")]
    Away(String),
    /// A module cannot be used as it is.
    #[error("{0}")]
    Module(String),
}

impl HostError {
    pub(crate) fn file(
        what: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
