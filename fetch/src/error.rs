//! What can go wrong with a request, told in one line without secrets.

use std::error::Error;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::redact::redact;

/// A request that failed: what was attempted, on which URL, and why.
#[derive(Debug, thiserror::Error)]
#[error("{action} {url}{}: {problem}", elsewhere(.url, .at))]
pub struct FetchError {
    /// What was attempted, such as "cannot fetch".
    action: &'static str,
    /// The URL as it was asked for, [redacted](redact).
    url: String,
    /// The URL that was open when it failed, if the map or a redirect changed it; redacted.
    at: Option<String>,
    /// Why.
    problem: Box<Problem>,
}

/// Text for where a request was when it failed, if that is not where it began.
fn elsewhere(url: &str, at: &Option<String>) -> String {
    match at {
        Some(at) if at != url => format!(" (at {at})"),
        _ => String::new(),
    }
}

impl FetchError {
    /// Wraps a problem; both URLs are redacted here.
    pub(crate) fn new(action: &'static str, url: &str, at: Option<&str>, problem: Problem) -> Self {
        Self {
            action,
            url: redact(url),
            at: at.map(redact),
            problem: Box::new(problem),
        }
    }

    /// Why it failed.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// Whether the same request may succeed later: connections, timeouts, 408, 429 and 5xx.
    pub fn is_transient(&self) -> bool {
        match &*self.problem {
            Problem::Connection(_) | Problem::Timeout { .. } => true,
            Problem::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            _ => false,
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// The text is no URL.
    #[error("not a valid URL: {0}")]
    InvalidUrl(String),
    /// The scheme is none that the runner opens.
    #[error("scheme \"{0}\" is refused; possible are http, https, data and file")]
    Scheme(String),
    /// A redirect leads away from http and https.
    #[error("a redirect to \"{0}:\" is refused; it must stay http or https")]
    RedirectScheme(String),
    /// The address is refused by the policy.
    #[error(
        "address {address} of host {host} is refused (network {network}; ALLOWED_NETWORKS names exceptions)"
    )]
    Refused {
        /// The host as in the URL.
        host: String,
        /// The address found for it.
        address: IpAddr,
        /// The network of the policy that contains it.
        network: String,
    },
    /// A name that is refused where the address cannot be seen.
    #[error("host {0} is refused: it names a metadata service")]
    RefusedName(String),
    /// More redirects than are followed.
    #[error("more than {0} redirects")]
    Redirects(usize),
    /// A redirect whose target is missing or no URL.
    #[error("redirect {status} with an unusable Location: {reason}")]
    Location {
        /// The status of the redirect.
        status: u16,
        /// What is wrong with its target.
        reason: String,
    },
    /// The answer is not a success.
    #[error("answered {status}{}", quoted(.body))]
    Status {
        /// The status of the answer.
        status: u16,
        /// The beginning of a text body, on one line; else empty.
        body: String,
    },
    /// The content is larger than allowed.
    #[error("{} than the limit of {limit} bytes", larger(.announced))]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
        /// The size, where it was known beforehand.
        announced: Option<u64>,
    },
    /// Waited too long.
    #[error("waited {} s for {what}", .after.as_secs_f64())]
    Timeout {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
    /// An answer that cannot be used.
    #[error("{0}")]
    Response(String),
    /// A `data:` URL that cannot be decoded.
    #[error("not a valid data URL: {0}")]
    DataUrl(String),
    /// A `file://` URL that leads out of the allowed folders.
    #[error("files may only be read below {}", roots(.0))]
    OutsideRoots(Vec<PathBuf>),
    /// A local file or folder could not be used.
    #[error("cannot {action} {path:?}: {source}")]
    Io {
        /// What was attempted, such as "write".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The client could not be set up.
    #[error("cannot set up the HTTP client: {0}")]
    Setup(String),
}

/// The beginning of a body, after a colon.
fn quoted(body: &str) -> String {
    if body.is_empty() {
        String::new()
    } else {
        format!(": {body}")
    }
}

/// The size as far as it is known.
fn larger(announced: &Option<u64>) -> String {
    announced.map_or("larger".to_owned(), |size| format!("{size} bytes, larger"))
}

/// The allowed folders as a list.
fn roots(roots: &[PathBuf]) -> String {
    if roots.is_empty() {
        return "allowed folders, and none is allowed".to_owned();
    }
    roots
        .iter()
        .map(|root| root.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

/// An error with all its causes on one line, each said once.
pub(crate) fn flatten(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.replace(['\n', '\r'], " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_the_url_and_where_it_was() {
        let problem = Problem::Status {
            status: 404,
            body: "gone".into(),
        };
        let error = FetchError::new(
            "cannot fetch",
            "http://u:p@a/x?token=1&b=2",
            Some("http://b/y"),
            problem,
        );
        assert_eq!(
            error.to_string(),
            "cannot fetch http://***@a/x?token=***&b=2 (at http://b/y): answered 404: gone"
        );
        assert!(!error.is_transient());
    }

    #[test]
    fn numbers_are_said() {
        let large = Problem::TooLarge {
            limit: 10,
            announced: Some(20),
        };
        assert_eq!(
            large.to_string(),
            "20 bytes, larger than the limit of 10 bytes"
        );
        let unknown = Problem::TooLarge {
            limit: 10,
            announced: None,
        };
        assert_eq!(unknown.to_string(), "larger than the limit of 10 bytes");
        let late = Problem::Timeout {
            what: "the response",
            after: Duration::from_millis(1500),
        };
        assert_eq!(late.to_string(), "waited 1.5 s for the response");
    }
}
