//! `GET /`: JSON for programs, a page for people.

use axum::extract::{FromRequestParts, Request, State};
use axum::http::header::{ACCEPT, VARY};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde_json::json;

use crate::access::Access;
use crate::app::App;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::plugins::path_of;
use crate::routes::sage_cell;

pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    caller: Option<Extension<Caller>>,
    request: Request,
) -> Result<Response, ApiError> {
    let has_cells = app.0.config.sage_cell.is_some();
    if has_cells && sage_cell::page::is_asked_for(request.uri().query()) {
        let (mut parts, body) = request.into_parts();
        let cell = sage_cell::Cell::from_request_parts(&mut parts, &app).await?;
        let request = Request::from_parts(parts, body);
        return sage_cell::page::forward(State(app), cell, base, request).await;
    }
    let headers = request.headers();
    let accept = headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .unwrap_or_default();
    let mut response = if accept.contains("text/html") {
        let table = app.0.modules.table();
        // The page is for everybody, what it lists is not.
        let anonymous = || app.0.config.auth.anonymous();
        let caller = caller.map_or_else(anonymous, |Extension(caller)| caller);
        let may_see = caller.access >= Access::Viewer;
        let seen = if may_see { table.plugins() } else { &[] };
        let plugins: Vec<_> = seen
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
