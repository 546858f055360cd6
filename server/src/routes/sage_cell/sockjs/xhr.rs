//! `POST /sockjs/<server>/<session>/xhr_streaming`, `…/xhr` and `…/xhr_send`: a connection of requests. The first gives
//! frames as they come, the second the next one; the third brings some.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{Path as Segments, Request};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::stream;
use tokio::sync::{OwnedMutexGuard, mpsc};

use super::super::Cell;
use super::super::kernels::MAX_MESSAGE;
use super::frames::{self, Broken, Close};
use super::links::Link;
use super::{HEARTBEAT, NO_STORE, check_place};
use crate::body::read_all;
use crate::error::ApiError;

/// Bytes of one answer; the page asks again then.
const MAX_ANSWER: usize = 128 << 10;
/// What some browsers want to have before they show anything.
const PRELUDE: usize = 2048;
/// What balancers keep the requests of one connection together by.
const COOKIE_NAME: &str = "JSESSIONID";

/// `POST …/xhr_streaming`.
pub(crate) async fn stream(
    cell: Cell,
    Segments(place): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    let prelude = format!("{}\n", "h".repeat(PRELUDE));
    listen(cell, place, prelude, MAX_ANSWER)
}

/// `POST …/xhr`.
pub(crate) async fn poll(
    cell: Cell,
    Segments(place): Segments<(String, String)>,
) -> Result<Response, ApiError> {
    listen(cell, place, String::new(), 1)
}

/// Gives frames until these are so many bytes.
fn listen(
    cell: Cell,
    place: (String, String),
    mut first: String,
    most: usize,
) -> Result<Response, ApiError> {
    check_place(&place.0, &place.1)?;
    let (link, is_new) = cell.face.links().open(place, &cell.face, &cell.client)?;
    let body = match Arc::clone(&link.frames).try_lock_owned() {
        Err(_) => {
            first.push_str(&Close::still_open().frame());
            first.push('\n');
            Body::from(first)
        }
        Ok(frames) => {
            let opened = if is_new { frames::OPEN.len() + 1 } else { 0 };
            if is_new {
                first.push_str(frames::OPEN);
                first.push('\n');
            }
            let listening = Listening::new(link, frames, most.saturating_sub(opened));
            let first = Some(Bytes::from(first)).filter(|first| !first.is_empty());
            Body::from_stream(given(first, listening))
        }
    };
    Ok(answer(
        &cell.headers,
        StatusCode::OK,
        "application/javascript",
        body,
    ))
}

/// Somebody who listens, until this is dropped.
struct Listening {
    link: Arc<Link>,
    frames: OwnedMutexGuard<mpsc::Receiver<String>>,
    /// Bytes that the answer may still have.
    left: usize,
}

impl Listening {
    fn new(link: Arc<Link>, frames: OwnedMutexGuard<mpsc::Receiver<String>>, left: usize) -> Self {
        link.listen(true);
        Self { link, frames, left }
    }

    /// The next frame; nothing if there are to be no more in this answer.
    async fn next(&mut self) -> Option<Bytes> {
        if self.left == 0 {
            return None;
        }
        let frame = match tokio::time::timeout(HEARTBEAT, self.frames.recv()).await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                self.left = 0;
                return Some(Bytes::from(format!("{}\n", self.link.close().frame())));
            }
            Err(_) => frames::HEARTBEAT.to_owned(),
        };
        let frame = format!("{frame}\n");
        self.left = self.left.saturating_sub(frame.len());
        Some(Bytes::from(frame))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.link.listen(false);
    }
}

fn given(
    first: Option<Bytes>,
    listening: Listening,
) -> impl futures::Stream<Item = Result<Bytes, Infallible>> {
    let begin = (first, listening);
    stream::unfold(begin, |(first, mut listening)| async move {
        let next = match first {
            Some(first) => first,
            None => listening.next().await?,
        };
        Some((Ok(next), (None, listening)))
    })
}

/// `POST …/xhr_send`.
pub(crate) async fn send(
    cell: Cell,
    Segments(place): Segments<(String, String)>,
    request: Request,
) -> Result<Response, ApiError> {
    let link = cell.face.links().get(&place);
    let link =
        link.ok_or_else(|| ApiError::with(StatusCode::NOT_FOUND, "There is no such connection."))?;
    let body = read_all(request.into_body(), MAX_MESSAGE as u64).await?;
    let refused = |text: &'static str| {
        // The status is that of the protocol.
        let status = StatusCode::INTERNAL_SERVER_ERROR;
        Ok(answer(
            &cell.headers,
            status,
            "text/plain",
            Body::from(text),
        ))
    };
    let read = std::str::from_utf8(&body).map_or(Err(Broken::NoList), frames::read);
    let all = match read {
        Ok(all) => all,
        Err(Broken::Empty) => return refused("Payload expected."),
        Err(Broken::NoList) => return refused("Broken JSON encoding."),
    };
    for one in all {
        if !link.say(one).await {
            break;
        }
    }
    Ok(answer(
        &cell.headers,
        StatusCode::NO_CONTENT,
        "text/plain",
        Body::empty(),
    ))
}

/// An answer with what all of them have.
fn answer(request: &HeaderMap, status: StatusCode, kind: &'static str, body: Body) -> Response {
    let mut response = (status, body).into_response();
    let headers = response.headers_mut();
    let kind = format!("{kind}; charset=UTF-8");
    if let Ok(kind) = HeaderValue::try_from(kind) {
        headers.insert(CONTENT_TYPE, kind);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(NO_STORE));
    if let Ok(cookie) = HeaderValue::try_from(cookie(request)) {
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

/// The cookie as it was, or a new one.
fn cookie(request: &HeaderMap) -> String {
    let all = request.get_all(COOKIE).iter();
    let mut pairs = all
        .filter_map(|all| all.to_str().ok())
        .flat_map(|all| all.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let known = pairs.find(|(name, _)| *name == COOKIE_NAME);
    let value = known.map_or("dummy", |(_, value)| value);
    format!("{COOKIE_NAME}={value};Path=/")
}
