//! `POST /modules/`: loads a module.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::LOCATION;
use axum::response::{IntoResponse, Response};
use runner_core::identity::url_segment;
use runner_host::LoadRequest;
use serde::Deserialize;
use serde_json::Value;

use super::view;
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::read_all;
use crate::error::ApiError;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    target: String,
    name: Option<String>,
    args: Option<Value>,
    loader: Option<String>,
}

/// Answers when the module is RUNNING, or why it is not.
pub(crate) async fn load(
    State(app): State<App>,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let bytes = read_all(request.into_body(), app.0.config.max_parameters).await?;
    let body: Body = serde_json::from_slice(&bytes).map_err(|error| {
        ApiError::with(
            StatusCode::UNPROCESSABLE_ENTITY,
            format!(
                "The body is not usable: {error}. Expected JSON such as {{\"target\": \"/path/to/module.py\"}}."
            ),
        )
    })?;
    let args = match body.args {
        None | Some(Value::Null) => None,
        Some(Value::Array(args)) => Some(args),
        Some(other) => {
            return Err(ApiError::with(
                StatusCode::UNPROCESSABLE_ENTITY,
                format!("The value of args is {other}; expected an array."),
            ));
        }
    };
    let module = app
        .0
        .modules
        .load_module(LoadRequest {
            target: body.target,
            name: body.name,
            args,
            loader: body.loader,
        })
        .await?;
    let location = base.path(&format!("/modules/{}/", url_segment(&module.name())));
    let shown = Json(view(&app, &module).await);
    Ok((StatusCode::CREATED, [(LOCATION, location)], shown).into_response())
}
