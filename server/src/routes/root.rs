//! `GET /`: JSON for programs, a page for people.

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, VARY};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::plugins::path_of;

pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let mut response = if accept.contains("text/html") {
        let table = app.0.modules.table();
        let plugins: Vec<_> = table
            .plugins()
            .iter()
            .map(|provided| {
                let plugin = &provided.plugin;
                let link = base.path(&format!("{}ui/", path_of(plugin)));
                let version = plugin.identity.version().to_owned();
                (
                    plugin.title.clone(),
                    version,
                    plugin.description.clone(),
                    link,
                )
            })
            .collect();
        app.0.pages.index(&base, &plugins)?.into_response()
    } else {
        Json(json!({"title": "QHAna plugin runner api."})).into_response()
    };
    response
        .headers_mut()
        .append(VARY, axum::http::HeaderValue::from_static("Accept"));
    Ok(response)
}
