//! `GET /api-spec.json`, the pages that show it, and `GET /licenses/`. Nothing of it needs a network.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::header::{
    ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, IF_NONE_MATCH, VARY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use flate2::read::GzDecoder;
use rust_embed::RustEmbed;
use serde_json::{Value, json};
use url::form_urlencoded;

use super::Segment;
use super::plugins::loaded;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::licenses::{Component, licenses as components};
use crate::openapi;

/// Style and script of the pages, compressed; made by `static/vendor/update`.
#[derive(RustEmbed)]
#[folder = "static/vendor"]
struct Vendor;

/// Compressed bundles end in this.
const COMPRESSED: &str = ".gz";
/// The bundles bring their styles as text, and ReDoc searches in a worker made of a blob; scripts come
/// from here only, and nothing is evaluated.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'self'";

/// The document of all routes and plugins. As the list of plugins it is never partial.
pub(crate) async fn document(
    State(app): State<App>,
    base: BaseUrl,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    loaded(&app).await?;
    let table = app.0.modules.table();
    let document = app.0.document.of(&table);
    let body = openapi::with_server(&document, &base.url(""));
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let etag = format!("\"{:016x}\"", hasher.finish());
    let described = [(CACHE_CONTROL, "no-cache".to_owned()), (ETAG, etag)];
    if is_known(&headers, &described[1].1) {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    Ok((described, [(CONTENT_TYPE, "application/json")], body).into_response())
}

/// `GET /swagger-ui/`.
pub(crate) async fn swagger_ui() -> Response {
    page(
        "Swagger UI",
        "<link rel=\"stylesheet\" href=\"../static/vendor/swagger-ui-5.35.0.css\">\n\
         <script src=\"../static/vendor/swagger-ui-5.35.0.js\" defer></script>\n\
         <script src=\"../static/swagger-ui.js\" defer></script>",
        "<div id=\"swagger-ui\"></div>",
    )
}

/// `GET /redoc/`.
pub(crate) async fn redoc(RawQuery(query): RawQuery) -> Response {
    let body = format!(
        "<redoc spec-url=\"{}\" theme='{{\"typography\": {{\"fontFamily\": \
         \"system-ui, sans-serif\", \"headings\": {{\"fontFamily\": \"system-ui, sans-serif\"}}}}}}'></redoc>",
        document_url(query)
    );
    page(
        "ReDoc",
        "<style>body { margin: 0 }</style>\n\
         <script src=\"../static/vendor/redoc-2.5.4.js\" defer></script>",
        &body,
    )
}

/// `GET /rapidoc/`.
pub(crate) async fn rapidoc(RawQuery(query): RawQuery) -> Response {
    let body = format!(
        "<rapi-doc spec-url=\"{}\" render-style=\"view\" theme=\"light\" \
         load-fonts=\"false\" regular-font=\"system-ui, sans-serif\" show-header=\"false\" \
         allow-spec-url-load=\"false\" allow-spec-file-load=\"false\"></rapi-doc>",
        document_url(query)
    );
    page(
        "RapiDoc",
        "<script src=\"../static/vendor/rapidoc-9.3.8.js\" type=\"module\"></script>",
        &body,
    )
}

/// Where the pages find the document; with the token that they were opened with.
fn document_url(query: Option<String>) -> String {
    let query = query.unwrap_or_default();
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    match pairs.find(|(key, _)| key == "token") {
        Some((_, token)) => {
            let token: String = form_urlencoded::byte_serialize(token.as_bytes()).collect();
            format!("../api-spec.json?token={token}")
        }
        None => "../api-spec.json".to_owned(),
    }
}

/// `GET /static/vendor/…`: a bundle. Its name has its version, so it never changes.
pub(crate) async fn bundle(
    Segment(name): Segment,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let file = match name.ends_with(COMPRESSED) {
        true => None,
        false => Vendor::get(&format!("{name}{COMPRESSED}")),
    };
    let file = file.ok_or_else(ApiError::not_found)?;
    let digest: String = file.metadata.sha256_hash()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let is_compressed = accepts_gzip(&headers);
    // Two representations, two tags.
    let etag = format!("\"{digest}{}\"", if is_compressed { "-gz" } else { "" });
    let described = [
        (CACHE_CONTROL, "public, max-age=31536000, immutable"),
        (VARY, "Accept-Encoding"),
        (ETAG, &etag),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    if is_known(&headers, &etag) {
        return Ok((StatusCode::NOT_MODIFIED, described).into_response());
    }
    let content_type = match name.rsplit_once('.') {
        Some((_, "css")) => "text/css; charset=utf-8",
        _ => "text/javascript; charset=utf-8",
    };
    let content_type = [(CONTENT_TYPE, content_type)];
    if is_compressed {
        let encoding = [(CONTENT_ENCODING, "gzip")];
        return Ok((described, content_type, encoding, file.data.into_owned()).into_response());
    }
    let body = decompressed(file.data).map_err(|error| {
        tracing::error!("the bundle {name} is broken: {error}");
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR)
    })?;
    Ok((described, content_type, body).into_response())
}

/// `GET /licenses/`: what the runner is made of; JSON for programs, a page for people.
pub(crate) async fn licenses(headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let mut response = match accept.is_some_and(|accept| accept.contains("text/html")) {
        true => page("Licences", LICENSES_STYLE, &licenses_table()),
        false => Json(licenses_document()).into_response(),
    };
    let headers = response.headers_mut();
    headers.append(VARY, HeaderValue::from_static("Accept"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

const LICENSES_STYLE: &str = "<style>\n\
    body { font: 1rem/1.4 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem }\n\
    table { border-collapse: collapse; width: 100% } \
    th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ddd; \
    overflow-wrap: anywhere }\n\
    </style>";

fn licenses_document() -> Value {
    json!({
        "name": "runner",
        "version": env!("CARGO_PKG_VERSION"),
        "license": env!("CARGO_PKG_LICENSE"),
        "components": components(),
    })
}

fn licenses_table() -> String {
    let mut table = format!(
        "<h1>Licences</h1>\n<p>runner {} is licensed under {}. It is made with these components:</p>\n\
         <table>\n<thead><tr><th>Component<th>Version<th>Kind<th>Licence</tr></thead>\n<tbody>\n",
        env!("CARGO_PKG_VERSION"),
        env!("CARGO_PKG_LICENSE"),
    );
    for component in components() {
        let Component {
            name,
            version,
            kind,
            license,
            repository,
        } = component;
        let name = match repository {
            Some(url) => format!("<a href=\"{}\">{}</a>", escaped(url), escaped(name)),
            None => escaped(name),
        };
        let (version, license) = (escaped(version), escaped(license));
        let _ = writeln!(
            table,
            "<tr><td>{name}<td>{version}<td>{}<td>{license}</tr>",
            kind.as_str()
        );
    }
    table + "</tbody>\n</table>"
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

fn page(title: &str, head: &str, body: &str) -> Response {
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{title} – runner</title>\n<link rel=\"icon\" href=\"data:,\">\n{head}\n</head>\n\
         <body>\n{body}\n</body>\n</html>\n"
    );
    let headers: [(HeaderName, &str); 3] = [
        (CACHE_CONTROL, "no-cache"),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, Html(page)).into_response()
}

fn is_known(headers: &HeaderMap, etag: &str) -> bool {
    let known = headers
        .get(IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok());
    known.is_some_and(|known| known.split(',').any(|tag| tag.trim() == etag))
}

/// Whether `Accept-Encoding` has gzip, or everything, with a weight that is not zero.
pub(super) fn accepts_gzip(headers: &HeaderMap) -> bool {
    let weight = |wanted: &str| {
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let mut items = values
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','));
        items.find_map(|item| {
            let (coding, weight) = item.split_once(';').unwrap_or((item, "q=1"));
            let weight = weight.trim().strip_prefix("q=").unwrap_or("1");
            coding
                .trim()
                .eq_ignore_ascii_case(wanted)
                .then(|| weight.parse().unwrap_or(0.0))
        })
    };
    weight("gzip").or_else(|| weight("*")).unwrap_or(0.0) > 0.0
}

fn decompressed(data: Cow<'_, [u8]>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(&*data).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_sent_to_those_who_take_it() {
        for (accept, expected) in [
            (None, false),
            (Some("gzip, deflate, br"), true),
            (Some("br;q=1.0, GZIP;q=0.5"), true),
            (Some("gzip;q=0"), false),
            (Some("*"), true),
            (Some("gzip;q=0, *"), false),
            (Some("identity"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(ACCEPT_ENCODING, HeaderValue::from_static(accept));
            }
            assert_eq!(accepts_gzip(&headers), expected, "{accept:?}");
        }
    }

    #[test]
    fn a_token_goes_on_to_the_document() {
        let url = |query: &str| document_url(Some(query.to_owned()));
        assert_eq!(url("a=b"), "../api-spec.json");
        assert_eq!(
            url("a=b&token=x%22%3E%26"),
            "../api-spec.json?token=x%22%3E%26"
        );
    }

    #[tokio::test]
    async fn what_the_pages_load_is_there_and_whole() {
        let mut loaded = 0;
        let none = || RawQuery(None);
        for page in [
            swagger_ui().await,
            redoc(none()).await,
            rapidoc(none()).await,
        ] {
            let page = axum::body::to_bytes(page.into_body(), usize::MAX)
                .await
                .unwrap();
            let page = String::from_utf8(page.to_vec()).unwrap();
            assert!(!page.contains("//"), "{page}");
            for part in page.split("../static/vendor/").skip(1) {
                let name = part.split('"').next().unwrap().to_owned();
                let plain = bundle(Segment(name.clone()), HeaderMap::new())
                    .await
                    .unwrap();
                let plain = axum::body::to_bytes(plain.into_body(), usize::MAX)
                    .await
                    .unwrap();
                assert!(plain.len() > 100_000, "{name}");
                assert!(std::str::from_utf8(&plain).is_ok(), "{name}");
                loaded += 1;
            }
        }
        assert_eq!(loaded, 4);
        assert_eq!(
            Vendor::iter()
                .filter(|name| name.ends_with(COMPRESSED))
                .count(),
            loaded
        );
    }
}
