//! Which host a request was made to, and whether it may be. Every URL in an answer follows it.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::Response;

use crate::app::{App, ServerConfig};
use crate::error::ApiError;
use crate::incoming::client::{ClientAddress, forwarded};

/// The address by which the client knows the runner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    /// `http://host:port`.
    origin: String,
    /// The path below which a proxy shows the runner; without a slash at the end.
    prefix: String,
}

impl BaseUrl {
    /// A path of ours as a path of the client's.
    pub(crate) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// A path of ours as a URL.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{}{path}", self.origin, self.prefix)
    }

    /// Scheme and host.
    pub(crate) fn origin(&self) -> (&str, &str) {
        self.origin
            .split_once("://")
            .unwrap_or(("http", &self.origin))
    }

    /// The address by which a client knows another process, which told it.
    pub(crate) fn new(origin: String, prefix: String) -> Self {
        Self { origin, prefix }
    }

    /// Origin and prefix, as [`new`](Self::new) takes them.
    pub(crate) fn parts(&self) -> (&str, &str) {
        (&self.origin, &self.prefix)
    }

    /// Below a path of a proxy.
    #[cfg(test)]
    pub(crate) fn below(prefix: &str) -> Self {
        Self {
            origin: "http://localhost".to_owned(),
            prefix: prefix.to_owned(),
        }
    }

    fn of(request: &Request, config: &ServerConfig) -> Result<Self, ApiError> {
        let headers = request.headers();
        let forwarded = |name| forwarded(headers, name, config.proxies);
        let host = forwarded("x-forwarded-host")
            .or_else(|| headers.get(HOST).and_then(|host| host.to_str().ok()))
            .or_else(|| {
                request
                    .uri()
                    .authority()
                    .map(|authority| authority.as_str())
            })
            .or(config.server_name.as_deref())
            .unwrap_or("localhost");
        if !config.hosts.serves(host) {
            return Err(ApiError::bad_request(format!(
                "The host {host:?} is not served here. {}",
                config.hosts.explained()
            )));
        }
        let scheme = match forwarded("x-forwarded-proto") {
            Some("https") => "https",
            _ => "http",
        };
        let prefix = forwarded("x-forwarded-prefix")
            .unwrap_or_default()
            .trim_end_matches('/');
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%".contains(c);
        // Two slashes would be another host.
        let is_path = prefix.starts_with('/') && !prefix.starts_with("//");
        let prefix = match is_path && prefix.chars().all(is_plain) {
            true => prefix.to_owned(),
            false => String::new(),
        };
        let host = host.strip_suffix(':').unwrap_or(host);
        Ok(Self {
            origin: format!("{scheme}://{host}"),
            prefix,
        })
    }
}

/// Refuses requests to other hosts; the others know their [`BaseUrl`].
pub(crate) async fn check(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let config = &app.0.config;
    let base = BaseUrl::of(&request, config)?;
    let client = ClientAddress::of(&request, config.proxies);
    request.extensions_mut().insert(base);
    if let Some(client) = client {
        request.extensions_mut().insert(client);
    }
    Ok(next.run(request).await)
}

impl<S: Sync> FromRequestParts<S> for BaseUrl {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let base = parts.extensions.get::<Self>().cloned();
        base.ok_or_else(|| ApiError::new(StatusCode::INTERNAL_SERVER_ERROR))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incoming::Hosts;

    fn config(server_name: Option<&str>, proxies: usize) -> ServerConfig {
        let known = server_name.map(str::to_owned);
        ServerConfig {
            server_name: known.clone(),
            hosts: Hosts::new(known.into_iter().collect(), "").unwrap(),
            proxies,
            ..ServerConfig::default()
        }
    }

    fn base(headers: &[(&str, &str)], config: &ServerConfig) -> Result<BaseUrl, ApiError> {
        let mut request = Request::builder().uri("/plugins/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        BaseUrl::of(&request.body(axum::body::Body::empty()).unwrap(), config)
    }

    #[test]
    fn only_hosts_that_cannot_be_rebound_are_served() {
        assert!(base(&[("host", "evil.example.com")], &config(None, 0)).is_err());
        let empty_port = base(&[("host", "localhost:")], &config(None, 0)).unwrap();
        assert_eq!(empty_port.url("/"), "http://localhost/");
        for name in ["example.org", "example.org:1234"] {
            let base = base(&[("host", "example.org:1234")], &config(Some(name), 0)).unwrap();
            assert_eq!(base.url("/plugins/"), "http://example.org:1234/plugins/");
        }
    }

    #[test]
    fn forwarded_headers_are_believed_from_known_proxies_only() {
        let headers = [
            ("host", "127.0.0.1"),
            ("x-forwarded-host", "evil, public"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-prefix", "/runner/"),
        ];
        assert_eq!(
            base(&headers, &config(None, 0)).unwrap().url("/"),
            "http://127.0.0.1/"
        );
        assert_eq!(
            base(&headers, &config(None, 1)).unwrap().url("/"),
            "https://public/runner/"
        );
        for prefix in ["//evil.example/x", "runner", "/a\"b", "/"] {
            let headers = [("host", "127.0.0.1"), ("x-forwarded-prefix", prefix)];
            let base = base(&headers, &config(None, 1)).unwrap();
            assert_eq!(base.path("/static/forms.css"), "/static/forms.css");
        }
    }
}
