//! Who may read answers from another origin: everybody, or the origins that are listed, on what the QHAna contract offers; nobody, on
//! what changes the installation, and never with DELETE.

use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use url::Url;

use crate::app::App;
use crate::base_url::BaseUrl;

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
    "cell",
];

/// First segments of paths of Sage Cell, where that is switched on: pages of others embed it, and end what they began.
const CELLS: &[&str] = &["kernel", "sockjs", "service", "permalink", "tos.html"];

/// Which origins may read answers.
#[derive(Debug, Clone, Default)]
pub enum Origins {
    /// All, as the contract has it.
    #[default]
    Any,
    /// These; it may be none.
    Listed(Vec<HeaderValue>),
}

impl Origins {
    /// Reads a list with commas, or `*` for all.
    ///
    /// # Errors
    /// One of them is no origin; the error says which.
    pub fn new(text: &str) -> Result<Self, String> {
        let entries = text.split([',', ' ']).filter(|entry| !entry.is_empty());
        let mut listed = Vec::new();
        for entry in entries {
            if entry == "*" {
                return Ok(Self::Any);
            }
            let is_origin = entry == "null"
                || Url::parse(entry).is_ok_and(|url| {
                    matches!(url.scheme(), "http" | "https")
                        && url.origin().ascii_serialization() == entry
                });
            let value = HeaderValue::from_str(entry).ok().filter(|_| is_origin);
            listed.push(value.ok_or_else(|| {
                format!(
                    "{entry:?} is no origin; expected such as https://ui.example.org or \
                     http://localhost:4200, without a path, or * for all"
                )
            })?);
        }
        Ok(Self::Listed(listed))
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        match self {
            Self::Any => true,
            Self::Listed(listed) => listed.contains(origin),
        }
    }
}

/// Adds the headers, and answers OPTIONS for every route that there is.
pub(crate) async fn layer(State(app): State<App>, request: Request, next: Next) -> Response {
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
    let is_cell = CELLS.contains(&first) && app.0.config.sage_cell.is_some();
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
    if is_cell {
        open_to_cells(&app.0.config.origins, &headers, response.headers_mut());
    } else if (is_open || response.status() == StatusCode::NOT_FOUND) && !is_delete {
        open(&app.0.config.origins, &headers, response.headers_mut());
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

/// Says who may read an answer.
pub(crate) fn open(origins: &Origins, request: &HeaderMap, response: &mut HeaderMap) {
    let Some(origin) = request.get(ORIGIN) else {
        if matches!(origins, Origins::Any) {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        return;
    };
    let vary = response.get(VARY).and_then(|vary| vary.to_str().ok());
    let vary = vary.map_or("Origin".to_owned(), |vary| format!("{vary}, Origin"));
    response.insert(
        VARY,
        HeaderValue::from_str(&vary).unwrap_or(HeaderValue::from_static("Origin")),
    );
    if !origins.allows(origin) {
        return;
    }
    response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    if request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let methods = HeaderValue::from_static("GET, HEAD, OPTIONS, POST");
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
        if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            response.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
    }
}

/// The same for pages with cells, which send cookies, and may end and put in what is theirs.
fn open_to_cells(origins: &Origins, request: &HeaderMap, response: &mut HeaderMap) {
    open(origins, request, response);
    let is_echoed = request.contains_key(ORIGIN)
        && response.get(ACCESS_CONTROL_ALLOW_ORIGIN) == request.get(ORIGIN);
    if !is_echoed {
        return;
    }
    let all = [
        (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
        (
            ACCESS_CONTROL_EXPOSE_HEADERS,
            "Jupyter-Kernel-ID, Retry-After",
        ),
    ];
    for (name, value) in all {
        response.insert(name, HeaderValue::from_static(value));
    }
    if request.contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        let methods = HeaderValue::from_static("GET, HEAD, OPTIONS, POST, PUT, DELETE");
        response.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
}

/// Whether a page from where the request comes may have a WebSocket: browsers ask nobody before they open one, and let the
/// page read it.
pub(crate) fn may_have_socket(origins: &Origins, request: &HeaderMap, base: &BaseUrl) -> bool {
    let Some(origin) = request.get(ORIGIN) else {
        return true;
    };
    let (scheme, host) = base.origin();
    origins.allows(origin) || origin.as_bytes() == format!("{scheme}://{host}").as_bytes()
}

/// Whether a page from where the request comes may have a WebSocket over which code is run: that all origins may read
/// is not enough.
pub(crate) fn may_run_code(origins: &Origins, request: &HeaderMap, base: &BaseUrl) -> bool {
    let Some(origin) = request.get(ORIGIN) else {
        return true;
    };
    let (_, own) = base.origin();
    let host = origin.to_str().ok().and_then(|text| text.split_once("://"));
    let is_own = host.is_some_and(|(_, host)| host.eq_ignore_ascii_case(own));
    is_own || matches!(origins, Origins::Listed(listed) if listed.contains(origin))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderName;

    #[test]
    fn pages_of_other_origins_have_sockets_where_they_may_read() {
        let base = BaseUrl::below("");
        let may = |listed: &str, origin: Option<&str>| {
            let origin = origin.map(|origin| (ORIGIN, origin.parse().unwrap()));
            let request = HeaderMap::from_iter(origin);
            may_have_socket(&Origins::new(listed).unwrap(), &request, &base)
        };
        assert!(may("*", Some("https://a")));
        assert!(may("https://a", Some("https://a")));
        assert!(!may("https://a", Some("https://b")));
        assert!(may("", Some("http://localhost")), "its own pages");
        assert!(may("", None), "no page");
    }

    #[test]
    fn pages_of_other_origins_run_code_only_where_they_are_named() {
        let base = BaseUrl::below("");
        let may = |listed: &str, origin: Option<&str>| {
            let origin = origin.map(|origin| (ORIGIN, origin.parse().unwrap()));
            let request = HeaderMap::from_iter(origin);
            may_run_code(&Origins::new(listed).unwrap(), &request, &base)
        };
        assert!(
            !may("*", Some("https://a")),
            "that all may read is not enough"
        );
        assert!(may("https://a", Some("https://a")));
        assert!(!may("https://a", Some("https://b")));
        assert!(
            may("", Some("https://LOCALHOST")),
            "its own pages, behind TLS"
        );
        assert!(!may("", Some("null")));
        assert!(may("", None), "no page");
    }

    fn allowed(origins: &str, origin: Option<&str>) -> Option<String> {
        let mut request = HeaderMap::new();
        if let Some(origin) = origin {
            request.insert(ORIGIN, origin.parse().unwrap());
        }
        let mut response = HeaderMap::new();
        open(&Origins::new(origins).unwrap(), &request, &mut response);
        let allowed = response.get(ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(allowed.to_str().unwrap().to_owned())
    }

    #[test]
    fn listed_origins_are_echoed_and_others_get_nothing() {
        let listed = "https://ui.example.org, http://localhost:4200,null";
        for origin in ["https://ui.example.org", "http://localhost:4200", "null"] {
            assert_eq!(allowed(listed, Some(origin)).as_deref(), Some(origin));
        }
        for origin in ["http://ui.example.org", "https://ui.example.org.evil.org"] {
            assert_eq!(allowed(listed, Some(origin)), None);
        }
        assert_eq!(allowed(listed, None), None);
        assert_eq!(allowed("", Some("https://ui.example.org")), None);
        assert_eq!(
            allowed("*", Some("https://a")).as_deref(),
            Some("https://a")
        );
        assert_eq!(allowed("*", None).as_deref(), Some("*"));
    }

    #[test]
    fn pages_with_cells_send_cookies_and_end_their_kernels() {
        let answer = |origins: &str, request: &[(HeaderName, &str)]| {
            let request = request.iter();
            let request = request.map(|(name, value)| (name.clone(), value.parse().unwrap()));
            let mut response = HeaderMap::new();
            let origins = Origins::new(origins).unwrap();
            open_to_cells(&origins, &HeaderMap::from_iter(request), &mut response);
            response
        };
        let origin = (ORIGIN, "https://a");
        let preflight = (ACCESS_CONTROL_REQUEST_METHOD, "DELETE");
        let open = answer("*", &[origin.clone(), preflight.clone()]);
        assert_eq!(open[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a");
        assert_eq!(open[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        let methods = open[ACCESS_CONTROL_ALLOW_METHODS].to_str().unwrap();
        assert!(methods.contains("DELETE"));
        let closed = answer("https://b", &[origin, preflight]);
        assert!(!closed.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert!(!closed.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        let nobody = answer("*", &[]);
        assert!(!nobody.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }

    #[test]
    fn what_is_no_origin_is_named() {
        for wrong in [
            "https://a/",
            "a",
            "https://a/b",
            "ftp://a",
            "https://a:443",
            "**",
        ] {
            let error = Origins::new(&format!("null,{wrong}")).unwrap_err();
            assert!(error.contains(&format!("{wrong:?}")), "{error}");
        }
    }
}
