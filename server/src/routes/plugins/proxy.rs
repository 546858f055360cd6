//! `/plugins/<identifier>/…`: steps of tasks; and what is no route of the runner goes to the plugin's own.
//!
//! The plugin's web host is spoken to by HTTP/1.1, a connection for each request, and both bodies flow
//! through unbuffered: who reads slowly slows down who sends.

mod headers;
mod received;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, CONTENT_LENGTH, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;
use runner_host::{HostError, Provided, WebConnection};
use tokio_util::task::AbortOnDropHandle;

use self::received::Received;
use super::{find, path_of, steps};
use crate::app::App;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::body::passed::{Passed, Transfer, Turn};
use crate::error::ApiError;
use crate::router::add_slash;
use crate::token;

/// What a plugin's own route may be asked with, for browsers that ask before they do.
pub(crate) const METHODS: &str = "GET,HEAD,POST,PUT,PATCH,DELETE";

/// Everything below a plugin that has no row of its own in the table of routes.
pub(crate) async fn dispatch(
    State(app): State<App>,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let path = request.uri().path().to_owned();
    let (identifier, rest) = split(&path).ok_or_else(ApiError::not_found)?;
    let provided = match (find(&app, &identifier).await, steps::parse(rest)) {
        (Ok(provided), _) => provided,
        (Err(error), Some(step)) if *request.method() == Method::POST => {
            return steps::without_plugin(&app, &base, &identifier, step, error).await;
        }
        (Err(error), Some((task, _))) => {
            // Only who submits a step changes something.
            let page = (task, "-ui");
            return steps::without_plugin(&app, &base, &identifier, page, error).await;
        }
        (Err(error), None) => return Err(error),
    };
    if let Some((task, action)) = steps::parse(rest) {
        return match rest.ends_with('/') {
            true => steps::answer(&app, &base, provided, task, action, request).await,
            false => Ok(add_slash(base, request.uri().clone()).await),
        };
    }
    if !provided.plugin.routes {
        return Err(ApiError::not_found());
    }
    let is_preflight = request
        .headers()
        .contains_key(ACCESS_CONTROL_REQUEST_METHOD);
    if request.method() == Method::OPTIONS && is_preflight {
        // The layer for other origins makes the answer of it.
        return Err(ApiError::method_not_allowed(METHODS));
    }
    if request.headers().contains_key(UPGRADE) {
        return Err(ApiError::with(
            StatusCode::NOT_IMPLEMENTED,
            "WebSockets and other upgrades do not reach a plugin yet; server-sent events do.",
        ));
    }
    forward(&app, &base, &provided, rest, request).await
}

/// Identifier and rest of a path; the rest as it was sent.
fn split(path: &str) -> Option<(String, &str)> {
    let (identifier, rest) = path.strip_prefix("/plugins/")?.split_once('/')?;
    let identifier = percent_decode_str(identifier).decode_utf8().ok()?;
    Some((identifier.into_owned(), rest))
}

async fn forward(
    app: &App,
    base: &BaseUrl,
    provided: &Provided,
    rest: &str,
    request: Request,
) -> Result<Response, ApiError> {
    let limit = app.0.config.max_upload;
    if announced(request.headers()).is_some_and(|size| size > limit) {
        return Err(ApiError::too_large("body", limit));
    }
    let known = request.extensions().get::<Caller>().cloned();
    let known = known.filter(|caller| caller.is_known);
    // What the client showed to the runner is for no plugin: it could pass for the client with it.
    let shown = known.as_ref().and_then(|_| token::shown(&request));
    let mut secrets = vec![app.0.config.token.clone()];
    secrets.extend(shown.map(Cow::into_owned));
    secrets.retain(|secret| !secret.is_empty());
    let (mut parts, body) = request.into_parts();
    parts.uri = target(rest, parts.uri.query(), &secrets)?;
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>();
    let caller = headers::Caller {
        base,
        peer: peer.map(|ConnectInfo(address)| address.ip()),
        proxies: app.0.config.proxies,
        subject: known.as_ref().and_then(|caller| caller.subject.as_deref()),
        secrets: &secrets,
    };
    parts.headers = headers::to_plugin(&parts.headers, &caller, &provided.plugin);
    let exchange = Exchange {
        app,
        provided,
        limit,
    };
    let is_repeatable = parts.method.is_safe() && body.is_end_stream();
    let sent = match is_repeatable {
        true => exchange.attempt(&parts, Body::empty()).await,
        false => exchange.attempt(&parts, body).await,
    };
    match sent {
        // A web host that was just dying took the request and did not answer.
        Err(Failure::Cut(_)) if is_repeatable => exchange.attempt(&parts, Body::empty()).await,
        sent => sent,
    }
    .map_err(|failure| failure.into_error(provided))
}

/// How large a body says it is.
fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Path and query for the plugin, without secrets of the runner.
fn target(rest: &str, query: Option<&str>, secrets: &[String]) -> Result<Uri, ApiError> {
    let is_other = |pair: &&str| {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        let is = |secret: &String| percent_decode_str(value).eq(secret.bytes());
        !secrets.iter().any(is)
    };
    let query = query.map(|query| {
        let pairs: Vec<&str> = query.split('&').filter(is_other).collect();
        format!("?{}", pairs.join("&"))
    });
    format!("/{rest}{}", query.unwrap_or_default())
        .parse()
        .map_err(|error| ApiError::bad_request(format!("The path is not usable: {error}.")))
}

/// Why there is no answer.
enum Failure {
    /// No connection to the web host.
    Host(HostError),
    /// The connection ended before the answer began.
    Cut(hyper::Error),
    /// The plugin took too long to begin its answer: this many seconds.
    Silent(f64),
    /// The client took too long to send more.
    SlowClient(f64),
    /// Something is wrong with the body.
    Body(ApiError),
    /// What was answered is no answer to a client.
    Answer(StatusCode),
}

/// A request to a plugin, as often as it is tried.
struct Exchange<'a> {
    app: &'a App,
    provided: &'a Provided,
    /// Bytes of the body.
    limit: u64,
}

impl Exchange<'_> {
    /// A connection to the plugin; to its newer version, if that has just taken its place.
    async fn connect(&self) -> Result<WebConnection, HostError> {
        let mut module = Arc::clone(&self.provided.module);
        loop {
            let closed = match module.visit().await {
                Err(error @ HostError::Closed(_)) => error,
                connected => return connected,
            };
            let table = self.app.0.modules.table();
            let newer = table.plugin_for_task(&self.provided.plugin.identifier);
            match newer.filter(|newer| !Arc::ptr_eq(&newer.module, &module)) {
                Some(newer) => module = Arc::clone(&newer.module),
                None => return Err(closed),
            }
        }
    }

    async fn attempt(&self, parts: &Parts, body: Body) -> Result<Response, Failure> {
        let WebConnection { stream, visit } = self.connect().await.map_err(Failure::Host)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(Failure::Cut)?;
        // Whoever drops the answer, begun or not, also hangs up on the plugin.
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            // How it ends is told to the answer.
            let _ = connection.await;
        }));
        let transfer = Transfer::default();
        let mut request = Request::new(Passed::new(body, self.limit, transfer.clone()));
        *request.method_mut() = parts.method.clone();
        *request.uri_mut() = parts.uri.clone();
        *request.headers_mut() = parts.headers.clone();
        let patience = self.app.0.config.route_timeout;
        let answer = tokio::select! {
            answer = sender.send_request(request) => answer,
            turn = transfer.stalled(patience) => {
                return Err(match turn {
                    Turn::Receiver => {
                        visit.unanswered();
                        Failure::Silent(patience.as_secs_f64())
                    }
                    Turn::Client => Failure::SlowClient(patience.as_secs_f64()),
                });
            }
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                return Err(match transfer.problem() {
                    Some(problem) => Failure::Body(problem.into_error(self.limit)),
                    None => {
                        visit.cut();
                        Failure::Cut(error)
                    }
                });
            }
        };
        visit.answered();
        if answer.status().is_informational() {
            return Err(Failure::Answer(answer.status()));
        }
        let (mut parts, body) = answer.into_parts();
        parts.headers = headers::to_client(&parts.headers);
        parts.extensions.clear();
        let body = Body::new(Received::new(body, connection, visit));
        Ok(Response::from_parts(parts, body).into_response())
    }
}

impl Failure {
    fn into_error(self, provided: &Provided) -> ApiError {
        let plugin = &provided.plugin.identifier;
        let path = path_of(&provided.plugin);
        let failed = |why: String| {
            tracing::error!("a request to {path} was not answered by the plugin: {why}");
            ApiError::with(
                StatusCode::BAD_GATEWAY,
                format!("The plugin {plugin} does not answer; the log of the runner says why."),
            )
        };
        match self {
            Self::Host(HostError::Busy(why)) => {
                tracing::warn!("a request to {path} was refused: {why}");
                ApiError::busy(
                    "The plugin has too many requests in progress; try again in a moment.",
                )
            }
            Self::Host(HostError::Closed(_)) => ApiError::leaving(plugin),
            Self::Host(error) => failed(error.to_string()),
            Self::Cut(error) => failed(format!(
                "its process ended, or closed the connection ({})",
                headers::causes(&error)
            )),
            Self::Answer(status) => failed(format!("it answered {status}, which ends no request")),
            Self::Silent(seconds) => {
                tracing::warn!("a request to {path} was not answered within {seconds} s");
                ApiError::with(
                    StatusCode::GATEWAY_TIMEOUT,
                    format!(
                        "The plugin {plugin} did not begin to answer within {seconds} s (the limit is set by \
                         ROUTE_TIMEOUT)."
                    ),
                )
            }
            Self::SlowClient(seconds) => ApiError::with(
                StatusCode::REQUEST_TIMEOUT,
                format!("No more of the body came within {seconds} s."),
            ),
            Self::Body(error) => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_follows_the_plugin_is_left_as_it_was_sent() {
        let (identifier, rest) = split("/plugins/a%40b/x/%2E%2e/y%2Fz/").unwrap();
        assert_eq!((identifier.as_str(), rest), ("a@b", "x/%2E%2e/y%2Fz/"));
        let target = target("x/%2e", Some("a=b&c"), &[]).unwrap();
        assert_eq!(target.to_string(), "/x/%2e?a=b&c");
    }

    #[test]
    fn secrets_are_not_told() {
        let secrets = ["other".to_owned(), "secret".to_owned()];
        for query in ["token=secret&a=b", "a=b&token=%73ecret", "a=b&x=secret"] {
            let target = target("x", Some(query), &secrets).unwrap();
            assert_eq!(target.query(), Some("a=b"));
        }
    }
}
