//! Around every request: a number for the log, the limit of those in progress, and headers of every answer.

use std::fmt::Write;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::header::{REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;

use super::slow::Timely;
use crate::app::App;
use crate::cors;
use crate::error::ApiError;

/// The number of a request: of the client or a proxy if it is usable, else of ours.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a number that somebody else gave.
const MAX_ID: usize = 100;

/// What begins with one of these may be shown in a frame of any page: forms and own pages of plugins, and the page
/// with cells, which are made for it, and files.
const FRAMED: [&str; 4] = ["/plugins/", "/files/", "/cell/", "/kernel/"];

/// Requests in progress.
#[derive(Debug, Default)]
pub(crate) struct InProgress(AtomicUsize);

/// A request in progress. It ends when this is dropped.
struct Begun<'a>(&'a InProgress);

impl InProgress {
    fn begin(&self, limit: usize) -> Option<Begun<'_>> {
        let begun = Begun(self);
        // The guard takes back what is added here, also when there is no room.
        (self.0.fetch_add(1, Ordering::Relaxed) < limit).then_some(begun)
    }
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Numbers the request, and gives every answer its headers.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = id(request.headers());
    let shown = id.to_str().unwrap_or_default();
    let span = tracing::error_span!("request", id = shown);
    let is_framed = FRAMED
        .iter()
        .any(|framed| request.uri().path().starts_with(framed));
    let mut response = answer(&app, request, next).instrument(span).await;
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, id);
    headers
        .entry(X_CONTENT_TYPE_OPTIONS)
        .or_insert(HeaderValue::from_static("nosniff"));
    // A token in the address of a page is for nobody else.
    headers
        .entry(REFERRER_POLICY)
        .or_insert(HeaderValue::from_static("same-origin"));
    if !is_framed {
        headers
            .entry(X_FRAME_OPTIONS)
            .or_insert(HeaderValue::from_static("SAMEORIGIN"));
    }
    response
}

async fn answer(app: &App, request: Request, next: Next) -> Response {
    let limits = &app.0.config.limits;
    let Some(_begun) = app.0.in_progress.begin(limits.requests) else {
        tracing::warn!(
            "a request was refused: {} are in progress (MAX_REQUESTS)",
            limits.requests
        );
        let message = "The runner has too many requests in progress; try again in a moment.";
        let mut response = ApiError::busy(message).into_response();
        cors::open(
            &app.0.config.origins,
            request.headers(),
            response.headers_mut(),
        );
        return response;
    };
    let request = match request.body().is_end_stream() {
        true => request,
        false => request.map(|body| Body::new(Timely::new(body, limits))),
    };
    next.run(request).await
}

/// The number that came with the request, if it is one that can stand in a log; else a new one.
fn id(headers: &HeaderMap) -> HeaderValue {
    let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:+/=@".contains(byte);
    let is_usable = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=MAX_ID).contains(&bytes.len()) && bytes.iter().all(is_plain)
    };
    headers
        .get(REQUEST_ID)
        .filter(is_usable)
        .cloned()
        .unwrap_or_else(new_id)
}

/// A number that no other request of this process has, nor probably of another.
fn new_id() -> HeaderValue {
    static START: LazyLock<u64> = LazyLock::new(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let micros = u64::try_from(since.as_micros()).unwrap_or_default();
        (micros << 16) ^ u64::from(std::process::id())
    });
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let mut text = String::with_capacity(25);
    // Writing to text cannot fail, and hexadecimal digits are a header.
    let _ = write!(text, "{:x}-{count:x}", *START);
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_others_are_taken_where_they_can_stand_in_a_log() {
        let given = |text: &'static [u8]| {
            let value = HeaderValue::from_bytes(text).unwrap();
            id(&HeaderMap::from_iter([(REQUEST_ID, value)]))
        };
        for usable in ["1", "a-b_c.d:e+f/g=h@i", "0af7651916cd43dd8448eb211c80319c"] {
            assert_eq!(given(usable.as_bytes()), usable);
        }
        for unusable in [
            &b""[..],
            b"a b",
            b"a\"b",
            b"a\tb",
            b"\xff",
            &[b'x'; MAX_ID + 1],
        ] {
            let made = given(unusable);
            assert_ne!(made.as_bytes(), unusable);
            assert!(made.len() > 3);
        }
        assert_ne!(id(&HeaderMap::new()), id(&HeaderMap::new()));
    }

    #[test]
    fn no_more_are_in_progress_than_the_limit() {
        let all = InProgress::default();
        let first = all.begin(2);
        let second = all.begin(2);
        assert!(first.is_some() && second.is_some());
        assert!(all.begin(2).is_none());
        assert!(all.begin(2).is_none());
        drop(first);
        assert!(all.begin(2).is_some());
        drop(second);
        assert_eq!(all.0.load(Ordering::Relaxed), 0);
    }
}
