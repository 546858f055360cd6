//! Which host a request was made to, and whether it may be. Every URL in an answer follows it.

use std::net::IpAddr;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use crate::app::{App, ServerConfig};
use crate::error::ApiError;

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
        if !is_served(host, config) {
            return Err(ApiError::bad_request(format!(
                "The host {host:?} is not served here. Without SERVER_NAME these are: IP addresses, \
                 localhost, and names without a dot."
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

/// The value that the outermost trusted proxy added.
fn forwarded<'a>(headers: &'a HeaderMap, name: &str, proxies: usize) -> Option<&'a str> {
    if proxies == 0 {
        return None;
    }
    let values = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let values: Vec<&str> = values
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .collect();
    let first = values.len().saturating_sub(proxies);
    values.get(first).copied().filter(|value| !value.is_empty())
}

/// A page on another host must not reach a runner on a loopback address by a name of its own that it
/// lets resolve to it.
fn is_served(host: &str, config: &ServerConfig) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    };
    // A port may be left empty; a sign is none.
    let is_port = port.is_none_or(|port| {
        let is_number = port.bytes().all(|byte| byte.is_ascii_digit());
        is_number && (port.is_empty() || port.parse::<u16>().is_ok())
    });
    let bare = name
        .strip_prefix('[')
        .and_then(|name| name.strip_suffix(']'));
    let is_address = match bare {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_ipv4()),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let is_plain = !name.is_empty() && name.chars().all(is_name);
    let known = config
        .server_name
        .as_deref()
        .is_some_and(|known| known.eq_ignore_ascii_case(host) || known.eq_ignore_ascii_case(name));
    is_port
        && (is_address
            || is_plain && (!name.contains('.') || name.ends_with(".localhost") || known))
}

/// Refuses requests to other hosts; the others know their [`BaseUrl`].
pub(crate) async fn check(
    State(app): State<App>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let base = BaseUrl::of(&request, &app.0.config)?;
    request.extensions_mut().insert(base);
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
    use std::time::Duration;

    fn config(server_name: Option<&str>, proxies: usize) -> ServerConfig {
        ServerConfig {
            server_name: server_name.map(str::to_owned),
            proxies,
            development: false,
            token: String::new(),
            max_body: 0,
            max_parameters: 0,
            max_upload: 0,
            disk_floor: 0,
            lease: Duration::from_secs(15),
            route_timeout: Duration::ZERO,
            plugins_wait: Duration::ZERO,
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
        for host in [
            "127.0.0.1:5005",
            "[::1]:5005",
            "localhost",
            "a.localhost:1",
            "runner:8080",
            "localhost:",
            "[::1]:",
            "10.0.0.1",
        ] {
            assert!(base(&[("host", host)], &config(None, 0)).is_ok(), "{host}");
        }
        for host in [
            "evil.example.com",
            "evil.example.com:5005",
            "a b",
            "x\"",
            "h:99999",
            "h:+80",
            "h:-1",
            "h: 80",
            "h::",
            ":",
            "[x]",
            "127.0.0.1.evil.org",
            "",
        ] {
            assert!(base(&[("host", host)], &config(None, 0)).is_err(), "{host}");
        }
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
