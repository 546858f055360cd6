//! Every error as the JSON that clients expect: `{"code", "status"[, "message"][, "errors"]}`.
//!
//! A client's mistake is an [`ApiError`] with a message that says what was wrong and what was expected.
//! An error of ours is logged with its cause and told as a bare 500: use `?` on a [`StoreError`].

use axum::http::header::{ALLOW, CONNECTION, CONTENT_RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use runner_core::parameters::FieldErrors;
use runner_store::StoreError;
use serde_json::{Map, Value, json};

use crate::access::Access;
use crate::auth::Mode;
use crate::incoming::slow::Slow;

/// An error on its way to a client.
#[derive(Debug, thiserror::Error)]
#[error("{status} {message:?}")]
pub(crate) struct ApiError {
    status: StatusCode,
    message: Option<String>,
    errors: Option<Box<Value>>,
    /// Whether clients of Jupyter look for a `reason`.
    has_reason: bool,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// Where wrong fields were sent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Location {
    Form,
    Query,
    Json,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode) -> Self {
        Self {
            status,
            message: None,
            errors: None,
            has_reason: false,
            headers: Vec::new(),
        }
    }

    pub(crate) fn with(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            message: Some(message.into()),
            ..Self::new(status)
        }
    }

    /// A mistake of ours.
    pub(crate) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::with(StatusCode::BAD_REQUEST, message)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND)
    }

    pub(crate) fn task_not_found() -> Self {
        Self::with(StatusCode::NOT_FOUND, "Task not found.")
    }

    pub(crate) fn file_not_found() -> Self {
        Self::with(StatusCode::NOT_FOUND, "File not found.")
    }

    pub(crate) fn plugin_not_found() -> Self {
        Self::with(
            StatusCode::NOT_FOUND,
            "No plugin registered with that name.",
        )
    }

    /// Something of Jupyter's that there is not.
    pub(crate) fn jupyter_not_found(message: impl Into<String>) -> Self {
        Self {
            has_reason: true,
            ..Self::with(StatusCode::NOT_FOUND, message)
        }
    }

    pub(crate) fn fields(location: Location, errors: FieldErrors) -> Self {
        let name = match location {
            Location::Form => "form",
            Location::Query => "query",
            Location::Json => "json",
        };
        Self {
            errors: Some(Box::new(json!({ name: errors }))),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY)
        }
    }

    pub(crate) fn invalid_json(problem: &str) -> Self {
        Self {
            errors: Some(Box::new(json!({"json": ["Invalid JSON body."]}))),
            ..Self::bad_request(format!("The body is no JSON: {problem}"))
        }
    }

    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let allow = HeaderValue::from_static(allow);
        Self {
            headers: vec![(ALLOW, allow)],
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED)
        }
    }

    pub(crate) fn range_not_satisfiable(size: u64) -> Self {
        // Digits and ASCII letters.
        let all = HeaderValue::from_str(&format!("bytes */{size}"));
        Self {
            headers: all.into_iter().map(|all| (CONTENT_RANGE, all)).collect(),
            ..Self::new(StatusCode::RANGE_NOT_SATISFIABLE)
        }
    }

    pub(crate) fn too_large(what: &str, limit: u64) -> Self {
        Self::with(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The {what} is larger than the limit of {limit} bytes."),
        )
    }

    pub(crate) fn disk_full() -> Self {
        Self::with(
            StatusCode::INSUFFICIENT_STORAGE,
            "The disk of the runner is full; no task is accepted until there is room.",
        )
    }

    /// `left`: modules that are not described yet.
    pub(crate) fn starting(seconds: u64, left: usize) -> Self {
        let retry = HeaderValue::from(seconds);
        Self {
            headers: vec![(RETRY_AFTER, retry)],
            ..Self::with(
                StatusCode::SERVICE_UNAVAILABLE,
                format!(
                    "The plugins are still being loaded (modules that are not ready: {left}); try again in a moment."
                ),
            )
        }
    }

    pub(crate) fn busy(message: &str) -> Self {
        let retry = HeaderValue::from_static("1");
        Self {
            headers: vec![(RETRY_AFTER, retry)],
            ..Self::with(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// The module of a plugin is being stopped or replaced.
    pub(crate) fn leaving(plugin: &str) -> Self {
        Self::busy(&format!(
            "The plugin {plugin} takes no more requests: its module is being stopped, or a newer version takes its \
             place."
        ))
    }

    /// No token, or one that is wrong: then `problem` says what is.
    pub(crate) fn unauthorized(mode: Mode, problem: Option<&str>) -> Self {
        let wanted = match mode {
            Mode::Off => {
                "This needs the token in the instance folder's file `token`, as `Authorization: Bearer …` or \
                 `?token=…`."
            }
            Mode::Optional | Mode::Required => {
                "This needs a token, as `Authorization: Bearer …` or `?token=…`."
            }
        };
        let message = match problem {
            Some(problem) => format!("{problem} {wanted}"),
            None => wanted.to_owned(),
        };
        // RFC 6750: who showed nothing is told no error.
        let error = problem.map(|problem| ("invalid_token", problem));
        Self {
            headers: vec![(WWW_AUTHENTICATE, challenge(error))],
            ..Self::with(StatusCode::UNAUTHORIZED, message)
        }
    }

    /// The token is right, and does not allow this.
    pub(crate) fn forbidden(needed: Access, found: Access) -> Self {
        let found = match found {
            Access::Public => "no role".to_owned(),
            found => format!("the role {}", found.as_str()),
        };
        let message = format!(
            "This needs the role {}; the token has {found}.",
            needed.as_str()
        );
        let error = ("insufficient_scope", message.as_str());
        Self {
            headers: vec![(WWW_AUTHENTICATE, challenge(Some(error)))],
            ..Self::with(StatusCode::FORBIDDEN, message)
        }
    }

    /// The body did not come in time.
    pub(crate) fn slow(slow: Slow) -> Self {
        let limit = match slow {
            Slow::Silent(_) => "CLIENT_TIMEOUT",
            Slow::Long(_) => "UPLOAD_TIMEOUT",
        };
        let mut text = slow.to_string();
        text[..1].make_ascii_uppercase();
        Self {
            headers: vec![(CONNECTION, HeaderValue::from_static("close"))],
            ..Self::with(
                StatusCode::REQUEST_TIMEOUT,
                format!("{text} (the limit is set by {limit})."),
            )
        }
    }
}

/// How to show a token, and what is wrong with the one that was shown.
fn challenge(error: Option<(&str, &str)>) -> HeaderValue {
    let plain = |text: &str| text.replace(['"', '\\'], "'");
    let text = match error {
        None => "Bearer realm=\"runner\"".to_owned(),
        Some((error, description)) => format!(
            "Bearer realm=\"runner\", error=\"{error}\", error_description=\"{}\"",
            plain(description)
        ),
    };
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("Bearer realm=\"runner\""))
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        if error.is_disk_full() {
            tracing::error!("{error}");
            return Self::disk_full();
        }
        if error.is_read_only() {
            tracing::error!("{error}");
            return Self::with(
                StatusCode::SERVICE_UNAVAILABLE,
                "The disk of the runner is read-only; nothing was stored.",
            );
        }
        tracing::error!("a request failed: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("code".to_owned(), json!(self.status.as_u16()));
        if let Some(errors) = self.errors {
            body.insert("errors".to_owned(), *errors);
        }
        if let Some(message) = self.message {
            body.insert("message".to_owned(), json!(message));
        }
        if self.has_reason {
            body.insert("reason".to_owned(), Value::Null);
        }
        body.insert("status".to_owned(), json!(reason(self.status)));
        let mut response = (self.status, axum::Json(Value::Object(body))).into_response();
        response.headers_mut().extend(self.headers);
        response
    }
}

/// The words of the reference for a status.
fn reason(status: StatusCode) -> &'static str {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => "Request Entity Too Large",
        StatusCode::RANGE_NOT_SATISFIABLE => "Requested Range Not Satisfiable",
        status => status.canonical_reason().unwrap_or("Error"),
    }
}
