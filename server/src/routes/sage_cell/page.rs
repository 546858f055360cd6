//! `/cell/`: the page with cells, and what pages of others embed.

use axum::extract::{Request, State};
use axum::http::header::{CONTENT_SECURITY_POLICY, LOCATION};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::fields::Fields;
use super::{Cell, permalink};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::{Segment, statics};

/// Any page may show it in a frame. What cells put out may be HTML of anybody: it shows pictures from everywhere, and
/// runs no script.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src * data: blob:; \
     media-src * data: blob:; font-src 'self' data:; connect-src 'self' ws: wss:; frame-src 'self' data: blob:; \
     object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors *";

/// `GET /cell/`.
pub(crate) async fn index(headers: HeaderMap) -> Result<Response, ApiError> {
    let mut response = statics::serve("cell/index.html", &headers)?;
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    Ok(response)
}

/// What shows HTML of a cell that has scripts: they run, with an origin of their own, in frames of any page.
const FRAME_POLICY: &str =
    "sandbox allow-scripts allow-popups allow-downloads allow-forms; frame-ancestors *";

/// `GET /cell/<name>`: what the page consists of.
pub(crate) async fn file(Segment(name): Segment, headers: HeaderMap) -> Result<Response, ApiError> {
    let mut response = statics::serve(&format!("cell/{name}"), &headers)?;
    let policy = match name.as_str() {
        "index.html" => POLICY,
        "frame.html" => FRAME_POLICY,
        _ => return Ok(response),
    };
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    Ok(response)
}

/// `GET /static/embedded_sagecell.js`: the script by the name under which pages of others know it.
pub(crate) async fn embedded(headers: HeaderMap) -> Result<Response, ApiError> {
    statics::serve("cell/embed.js", &headers)
}

/// `GET /?q=…`, `?z=…`, `?c=…`: the way to the page, with the same query, if it leads to a cell.
pub(crate) async fn forward(
    State(app): State<App>,
    _: Cell,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let query = request.uri().query().unwrap_or_default();
    let fields = Fields::of_query(Some(query));
    if let Some(q) = fields.get("q") {
        permalink::find(&app, q).await?;
    }
    if let Some(z) = fields.get("z") {
        permalink::unzip(z)?;
    }
    let place = base.path(&format!("/cell/?{query}"));
    let place = HeaderValue::try_from(place).map_err(|_| ApiError::not_found())?;
    Ok((StatusCode::FOUND, [(LOCATION, place)]).into_response())
}

/// Whether a query asks for a cell.
pub(crate) fn is_asked_for(query: Option<&str>) -> bool {
    let fields = Fields::of_query(query);
    ["q", "z", "c"]
        .iter()
        .any(|name| fields.get(name).is_some())
}
