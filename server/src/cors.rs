//! Who may read answers from another origin: everybody, on what the QHAna contract offers; nobody, on
//! what changes the installation, and never with DELETE.

use axum::extract::Request;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// First segments of paths whose answers anybody may read.
const OPEN: &[&str] = &[
    "",
    "plugins",
    "tasks",
    "files",
    "static",
    "api-spec.json",
    "swagger-ui",
    "redoc",
    "rapidoc",
    "licenses",
];

/// Adds the headers, and answers OPTIONS for every route that there is.
pub(crate) async fn layer(request: Request, next: Next) -> Response {
    let headers = request.headers().clone();
    let method = request.method().clone();
    let first = request
        .uri()
        .path()
        .trim_start_matches('/')
        .split('/')
        .next()
        .unwrap_or_default();
    let is_open = OPEN.contains(&first);
    let mut response = next.run(request).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        let allow = allow(response.headers());
        if method == Method::OPTIONS {
            response = StatusCode::OK.into_response();
        }
        response.headers_mut().insert(ALLOW, allow);
    }
    let wanted = headers.get(ACCESS_CONTROL_REQUEST_METHOD);
    let is_delete =
        method == Method::DELETE || wanted.is_some_and(|wanted| wanted.as_bytes() == b"DELETE");
    if (is_open || response.status() == StatusCode::NOT_FOUND) && !is_delete {
        open(&headers, wanted.is_some(), response.headers_mut());
    }
    response
}

/// What a route allows, and OPTIONS.
fn allow(answer: &HeaderMap) -> HeaderValue {
    let methods = answer
        .get(ALLOW)
        .and_then(|allow| allow.to_str().ok())
        .unwrap_or_default();
    let methods = methods
        .split(',')
        .map(str::trim)
        .filter(|method| !matches!(*method, "" | "OPTIONS"));
    let methods: Vec<&str> = methods.chain(["OPTIONS"]).collect();
    HeaderValue::from_str(&methods.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

fn open(request: &HeaderMap, is_preflight: bool, response: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN) else {
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        return;
    };
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    let vary = response.get(VARY).and_then(|vary| vary.to_str().ok());
    let vary = vary.map_or("Origin".to_owned(), |vary| format!("{vary}, Origin"));
    response.insert(
        VARY,
        HeaderValue::from_str(&vary).unwrap_or(HeaderValue::from_static("Origin")),
    );
    if is_preflight {
        let methods = HeaderValue::from_static("GET, HEAD, OPTIONS, POST");
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
}
