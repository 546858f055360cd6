//! A request to a worker, over a link of its own, and what it answers: streamed both ways, and spliced where it becomes a
//! WebSocket.

use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, ORIGIN, TRANSFER_ENCODING,
    UPGRADE,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use hyper::client::conn::http1;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use super::asker::Asker;
use super::{Relay, lost};
use crate::body::passed::{Passed, Transfer};
use crate::error::ApiError;
use crate::incoming::seat::Seat;

/// How long a worker may take to begin its answer, once it has the request: longer than the first kernel takes.
const PATIENCE: Duration = Duration::from_secs(90);
/// Bytes that are copied at a time, from a client and to it.
const BUFFERS: (usize, usize) = (16 * 1024, 64 * 1024);
/// What belongs to one connection; `Upgrade` and `Connection` are said anew where they are meant.
const OF_CONNECTION: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("expect"),
];

/// A request as it goes to a worker, maybe to several.
pub(crate) struct Going {
    parts: Parts,
    asker: Asker,
    body: Content,
    /// The connection to the client, where it becomes another.
    upgrade: Option<OnUpgrade>,
    seat: Option<Seat>,
    /// How long the body may take.
    upload: Duration,
    /// How long the answer may take to begin.
    patience: Duration,
}

/// The body of a request.
enum Content {
    /// It is here, and may go to another worker where one does not take it.
    Whole(Bytes),
    /// It comes, and goes once.
    Coming(Option<Body>),
}

/// What became of a request.
pub(crate) enum Failure {
    /// There was no link: nothing went out.
    NotThere(String),
    /// There was no answer.
    Away(String),
    /// It was not a request.
    Wrong(ApiError),
}

impl Failure {
    /// As the client is told it.
    pub(crate) fn into_error(self, process: &str) -> ApiError {
        match self {
            Self::NotThere(why) | Self::Away(why) => lost(process, &why),
            Self::Wrong(error) => error,
        }
    }
}

impl Going {
    /// A request that passed the checks; its body comes.
    pub(super) fn new(mut request: Request, upload: Duration) -> Result<Self, ApiError> {
        let asker = Asker::of(&request)?;
        let is_upgrade = request.headers().contains_key(UPGRADE);
        let upgrade = is_upgrade.then(|| hyper::upgrade::on(&mut request));
        let seat = request.extensions().get::<Seat>().cloned();
        let (mut parts, body) = request.into_parts();
        parts.extensions.clear();
        Ok(Self {
            parts,
            asker,
            body: match body.is_end_stream() {
                true => Content::Whole(Bytes::new()),
                false => Content::Coming(Some(body)),
            },
            upgrade,
            seat,
            upload,
            patience: PATIENCE,
        })
    }

    /// A request of this server itself, with a body of JSON if it has one.
    pub(crate) fn own(
        method: Method,
        target: &str,
        body: impl Into<Bytes>,
        asker: Asker,
    ) -> Result<Self, ApiError> {
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(CONTENT_TYPE, "application/json")
            .body(());
        let (parts, ()) = request.map_err(|_| ApiError::internal())?.into_parts();
        Ok(Self {
            parts,
            asker,
            body: Content::Whole(body.into()),
            upgrade: None,
            seat: None,
            upload: Duration::ZERO,
            patience: PATIENCE,
        })
    }

    /// The same, whose answer may take so much longer.
    pub(crate) fn patient(mut self, more: Duration) -> Self {
        self.patience += more;
        self
    }

    /// Reads the body, so that the request may go to several workers.
    pub(super) async fn read(&mut self, limit: u64) -> Result<&[u8], ApiError> {
        if let Content::Coming(body) = &mut self.body {
            let body = body.take().unwrap_or_default();
            let read = crate::body::read_all(body, limit).await?;
            self.body = Content::Whole(read);
        }
        match &self.body {
            Content::Whole(body) => Ok(body),
            Content::Coming(_) => Err(ApiError::internal()),
        }
    }

    /// The same for another worker, without its connection to the client. It has to be whole.
    pub(super) fn again(&self) -> Result<Self, ApiError> {
        let Content::Whole(body) = &self.body else {
            return Err(ApiError::internal());
        };
        let mut parts = self.parts.clone();
        if parts.method == Method::HEAD {
            parts.method = Method::GET;
        }
        Ok(Self {
            parts,
            asker: self.asker.clone(),
            body: Content::Whole(body.clone()),
            upgrade: None,
            seat: None,
            upload: self.upload,
            patience: self.patience,
        })
    }

    /// Whether it may go once more: it is here, and had no effect where it went.
    pub(super) fn may_go_again(&self) -> bool {
        matches!(self.body, Content::Whole(_)) && self.parts.method.is_safe()
    }

    /// Whether it is to become a WebSocket.
    pub(super) fn is_upgrade(&self) -> bool {
        self.upgrade.is_some()
    }

    /// Who asks.
    pub(super) fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Its head for a worker.
    fn head(&self, asker: &Asker) -> Result<HeaderMap, ApiError> {
        let mut headers = self.parts.headers.clone();
        for name in OF_CONNECTION {
            headers.remove(name);
        }
        // Who asks was checked here, and so was the page that does.
        headers.remove(AUTHORIZATION);
        headers.remove(ORIGIN);
        if let Content::Whole(body) = &self.body {
            headers.remove(CONTENT_LENGTH);
            if !body.is_empty() {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
            }
        }
        headers
            .entry(HOST)
            .or_insert(HeaderValue::from_static("localhost"));
        if let Some(protocol) = self.parts.headers.get(UPGRADE)
            && self.is_upgrade()
        {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, protocol.clone());
        }
        asker.put(&mut headers)?;
        Ok(headers)
    }

    /// The body, and how long the answer may take to begin.
    fn take_body(&mut self) -> (Body, Duration) {
        match &mut self.body {
            Content::Whole(body) => (Body::from(body.clone()), self.patience),
            Content::Coming(body) => (body.take().unwrap_or_default(), self.upload + self.patience),
        }
    }
}

impl Relay {
    /// Sends a request to a worker.
    pub(crate) async fn send(
        &self,
        process: &str,
        going: &mut Going,
        asker: &Asker,
    ) -> Result<Response, Failure> {
        let away = |error: &dyn std::fmt::Display| Failure::Away(error.to_string());
        let headers = going.head(asker).map_err(Failure::Wrong)?;
        let target = going.parts.uri.path_and_query();
        let target = target.map_or("/", |target| target.as_str());
        let uri = target
            .parse()
            .map_err(|_| Failure::Wrong(ApiError::internal()))?;
        let link = self.links.open(process).await;
        let link = link.map_err(|error| Failure::NotThere(error.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(link)).await;
        let (mut sender, connection) = handshake.map_err(|error| away(&error))?;
        // It ends when nobody waits for the answer any more.
        tokio::spawn(async move {
            // How it ends is told to the answer.
            let _ = connection.with_upgrades().await;
        });
        let (body, patience) = going.take_body();
        let transfer = Transfer::default();
        // Its size is for the handler there.
        let mut request = Request::new(Passed::new(body, u64::MAX, transfer.clone()));
        *request.method_mut() = going.parts.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = headers;
        let answer = tokio::time::timeout(patience, sender.send_request(request)).await;
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                return Err(match transfer.problem() {
                    Some(problem) => Failure::Wrong(problem.into_error(u64::MAX)),
                    None => away(&error),
                });
            }
            Err(_) => {
                let why = format!("no answer within {} s", patience.as_secs());
                return Err(Failure::Away(why));
            }
        };
        Ok(match answer.status() {
            StatusCode::SWITCHING_PROTOCOLS => splice(answer, going),
            _ => passed_on(answer),
        })
    }
}

/// An answer as it goes to the client.
fn passed_on(answer: hyper::Response<hyper::body::Incoming>) -> Response {
    let (mut parts, body) = answer.into_parts();
    for name in OF_CONNECTION {
        parts.headers.remove(name);
    }
    parts.extensions.clear();
    Response::from_parts(parts, Body::new(body))
}

/// Joins both connections, as soon as the client has the answer.
fn splice(mut answer: hyper::Response<hyper::body::Incoming>, going: &mut Going) -> Response {
    let theirs = hyper::upgrade::on(&mut answer);
    let seat = going.seat.clone();
    if let Some(ours) = going.upgrade.take() {
        tokio::spawn(async move {
            let (Ok(ours), Ok(theirs)) = tokio::join!(ours, theirs) else {
                return;
            };
            let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
            let joined =
                copy_bidirectional_with_sizes(&mut ours, &mut theirs, BUFFERS.0, BUFFERS.1);
            tokio::select! {
                // Whoever left first, the other hears of it.
                _ = joined => {}
                () = Seat::over(seat.as_ref()) => {}
            }
        });
    }
    let (mut parts, _) = answer.into_parts();
    parts.extensions.clear();
    Response::from_parts(parts, Body::empty())
}
