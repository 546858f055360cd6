//! One file per resource and verb.

pub(crate) mod debug;
pub(crate) mod docs;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod metrics;
pub(crate) mod modules;
pub(crate) mod pipelines;
pub(crate) mod plugins;
pub(crate) mod retention;
pub(crate) mod root;
pub(crate) mod sage_cell;
pub(crate) mod schedules;
pub(crate) mod sessions;
pub(crate) mod statics;
pub(crate) mod tasks;
pub(crate) mod workers;

use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use tracing::Instrument;

use crate::error::ApiError;

/// Commits and then announces, whatever becomes of the request. Its own future is dropped when the client
/// hangs up, and of what was committed and not announced nobody would hear before the next start.
pub(crate) async fn commit_then_announce<T: Send + 'static>(
    commit: impl Future<Output = Result<T, ApiError>> + Send + 'static,
    announce: impl FnOnce(&T) + Send + 'static,
) -> Result<T, ApiError> {
    let both = async move {
        let committed = commit.await?;
        announce(&committed);
        Ok(committed)
    };
    // What it logs is still the request's.
    match tokio::spawn(both.in_current_span()).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runner ends.
            Err(_) => Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE)),
        },
    }
}

/// A number in a path. What is no number is no route; what is too large names nothing.
pub(crate) struct Id(pub(crate) Option<i64>);

impl Id {
    pub(crate) fn parse(text: &str) -> Result<Self, ApiError> {
        if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(ApiError::not_found());
        }
        Ok(Self(text.parse().ok()))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let Segment(text) = Segment::from_request_parts(parts, state).await?;
        Self::parse(&text)
    }
}

/// The only variable segment of a path, decoded.
pub(crate) struct Segment(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(text)) => Ok(Self(text)),
            Err(_) => Err(ApiError::not_found()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn who_hangs_up_does_not_break_off_what_is_committed() {
        let (begin, begun) = oneshot::channel::<()>();
        let (told, hear) = oneshot::channel();
        let commit = async {
            let _ = begun.await;
            Ok(7)
        };
        let announce = move |number: &i32| told.send(*number).unwrap();
        let mut request = Box::pin(commit_then_announce(commit, announce));
        assert!(futures::poll!(&mut request).is_pending());
        drop(request);
        begin.send(()).unwrap();
        assert_eq!(hear.await, Ok(7));
    }

    #[tokio::test]
    async fn what_was_not_committed_is_not_announced() {
        let commit = async { Err::<(), _>(ApiError::not_found()) };
        let outcome = commit_then_announce(commit, |()| panic!("announced")).await;
        assert_eq!(
            outcome.unwrap_err().to_string(),
            ApiError::not_found().to_string()
        );
    }
}
