//! Plugins: list, metadata, forms, runs, steps, own routes.

pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod steps;
pub(crate) mod ui;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use runner_core::identity::url_segment;
use runner_core::module::ModuleState;
use runner_core::plugin::{Link, Plugin};
use runner_host::Provided;
use serde::Serialize;
use serde_json::json;

use super::Segment;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::router::redirect;

/// The path of a plugin, with a slash at the end.
pub(crate) fn path_of(plugin: &Plugin) -> String {
    format!("/plugins/{}/", url_segment(&plugin.identifier))
}

/// The plugin with this identifier. While modules are being loaded, unknown ones are waited for.
pub(crate) async fn find(app: &App, identifier: &str) -> Result<Provided, ApiError> {
    if let Some(provided) = app.0.modules.table().plugin(identifier) {
        return Ok(provided.clone());
    }
    loaded(app).await?;
    let table = app.0.modules.table();
    match table.plugin(identifier) {
        Some(provided) => Ok(provided.clone()),
        None if table.is_leaving(identifier) => Err(ApiError::leaving(identifier)),
        None => Err(ApiError::plugin_not_found()),
    }
}

/// Waits a little for modules that are still being loaded.
pub(crate) async fn loaded(app: &App) -> Result<(), ApiError> {
    if app.0.modules.is_ready() {
        return Ok(());
    }
    let ready = tokio::time::timeout(app.0.config.plugins_wait, app.0.modules.ready());
    ready.await.map_err(|_| {
        let table = app.0.modules.table();
        let modules = table.modules.iter();
        let left = modules.filter(|module| module.state() == ModuleState::Init);
        ApiError::starting(2, left.count())
    })
}

/// A plugin as it is listed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    api_root: String,
    description: &'a str,
    identifier: &'a str,
    name: &'a str,
    tags: &'a [String],
    version: &'a str,
}

#[derive(Serialize)]
struct List<'a> {
    plugins: Vec<Listed<'a>>,
}

/// `GET /plugins/`. Never a partial list: registries would drop what is missing.
pub(crate) async fn list(State(app): State<App>, base: BaseUrl) -> Result<Response, ApiError> {
    loaded(&app).await?;
    let table = app.0.modules.table();
    let plugins = table
        .plugins()
        .iter()
        .map(|Provided { plugin, .. }| Listed {
            api_root: base.url(&path_of(plugin)),
            description: &plugin.description,
            identifier: &plugin.identifier,
            name: plugin.identity.name(),
            tags: &plugin.tags,
            version: plugin.identity.version(),
        })
        .collect();
    Ok(Json(List { plugins }).into_response())
}

/// `GET /plugins/<identifier>/`: the metadata; by name alone the way to the newest version.
pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    Segment(identifier): Segment,
) -> Result<Response, ApiError> {
    if !identifier.contains('@') {
        loaded(&app).await?;
        let table = app.0.modules.table();
        let newest = table
            .newest(&identifier)
            .ok_or_else(ApiError::plugin_not_found)?;
        return Ok(redirect(
            StatusCode::FOUND,
            &base.path(&path_of(&newest.plugin)),
        ));
    }
    let Provided { plugin, .. } = find(&app, &identifier).await?;
    let path = path_of(&plugin);
    let own = base.path(&path);
    let own = own.trim_end_matches('/');
    let links: Vec<Link> = plugin.links.iter().map(|link| link.below(own)).collect();
    let metadata = json!({
        "name": plugin.identity.name(),
        "version": plugin.identity.version(),
        "title": plugin.title,
        "description": plugin.description,
        "type": plugin.kind,
        "tags": plugin.tags,
        "links": links,
        "entryPoint": {
            "href": base.path(&format!("{path}process/")),
            "uiHref": base.path(&format!("{path}ui/")),
            "pluginDependencies": plugin.plugin_dependencies(),
            "dataInput": plugin.data_inputs(),
            "dataOutput": plugin.data_output,
        },
    });
    Ok(Json(metadata).into_response())
}
