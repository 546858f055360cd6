//! `GET` and `POST /plugins/<identifier>/ui/`: the form of a plugin.

use axum::extract::{Request, State};
use axum::response::{Html, IntoResponse, Response};
use runner_core::parameters::{FieldErrors, Form, Parameters};
use runner_host::Provided;
use serde_json::Map;

use super::{find, path_of};
use crate::app::App;
use crate::base_url::BaseUrl;
use crate::body::{Content, Sent, parse_query};
use crate::error::ApiError;
use crate::forms::FormPage;
use crate::routes::Segment;

/// Shows the form, prefilled by the query.
pub(crate) async fn show(
    State(app): State<App>,
    base: BaseUrl,
    Segment(identifier): Segment,
    request: Request,
) -> Result<Response, ApiError> {
    let provided = find(&app, &identifier).await?;
    let (values, errors) = prefilled(&request, &provided.plugin.form.parameters)?;
    Ok(page(&app, &base, &provided, values, errors, false)?.into_response())
}

/// Shows the form as it was sent, with what is wrong at each field.
pub(crate) async fn check(
    State(app): State<App>,
    base: BaseUrl,
    Segment(identifier): Segment,
    request: Request,
) -> Result<Response, ApiError> {
    let provided = find(&app, &identifier).await?;
    let (values, errors) = sent(&app, request, &provided.plugin.form.parameters).await?;
    let is_valid = errors.is_empty();
    Ok(page(&app, &base, &provided, values, errors, is_valid)?.into_response())
}

/// What a query says of a form. Only what was given can be wrong.
pub(super) fn prefilled(
    request: &Request,
    parameters: &Parameters,
) -> Result<(Form, FieldErrors), ApiError> {
    let query = parse_query(request.uri().query().unwrap_or_default().as_bytes())?;
    let mut errors = parameters.check_form(&query).errors;
    errors.retain(|key, _| query.text(key).is_some());
    // Keys of nothing on the form are no values: an otherwise empty query leaves the defaults.
    let known: Form = parameters
        .fields()
        .iter()
        .flat_map(|field| {
            let texts = query.all(&field.key).filter_map(|value| match value {
                runner_core::parameters::FormValue::Text(text) => Some(text.clone()),
                runner_core::parameters::FormValue::Upload(_) => None,
            });
            texts
                .map(|text| (field.key.clone(), text))
                .collect::<Vec<_>>()
        })
        .collect();
    Ok((known, errors))
}

/// What a posted form says. Files are checked and thrown away: they come again with the submission.
pub(super) async fn sent(
    app: &App,
    request: Request,
    parameters: &Parameters,
) -> Result<(Form, FieldErrors), ApiError> {
    let sent = Sent::read(app, request).await?;
    let errors = sent.check(parameters).errors;
    let values = match sent.into_content() {
        Content::Form(form) => form,
        Content::Json(object) => parameters.texts(&object).into_iter().collect(),
    };
    Ok((values, errors))
}

fn page(
    app: &App,
    base: &BaseUrl,
    provided: &Provided,
    values: Form,
    errors: FieldErrors,
    is_valid: bool,
) -> Result<Html<String>, ApiError> {
    let path = base.path(&path_of(&provided.plugin));
    app.0.pages.form(&FormPage {
        base,
        plugin: &provided.plugin,
        form: &provided.plugin.form,
        page: format!("{path}ui/"),
        process: format!("{path}process/"),
        values,
        prefill: &Map::new(),
        errors,
        is_valid,
    })
}
