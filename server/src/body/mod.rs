//! What was sent, as a form or JSON.

pub(crate) mod dispatch;
mod disposition;
mod multipart;
mod paced;
mod parts;
pub(crate) mod passed;
mod uploads;
mod urlencoded;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use futures::StreamExt;
use runner_core::file::Upload;
use runner_core::parameters::form::is_nested_too_deeply;
use runner_core::parameters::{Checked, FieldErrors, Form, FormValue, NESTED, Parameters};
use runner_core::task::check_labels;
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::error::{ApiError, Location};
use crate::incoming::slow::Slow;

pub(crate) use parts::FileParts;
pub(crate) use uploads::Uploads;
pub(crate) use urlencoded::parse as parse_query;

/// The key of labels; parameters cannot begin with `_`.
pub(crate) const LABEL: &str = "_label";

/// A body that was read.
#[derive(Debug)]
pub(crate) struct Sent {
    content: Content,
    /// The files that came with it.
    uploads: Uploads,
}

/// What stands in a body.
#[derive(Debug)]
pub(crate) enum Content {
    /// urlencoded or multipart; also no body at all.
    Form(Form),
    /// A JSON object.
    Json(Map<String, Value>),
}

impl Sent {
    /// Reads the body. Files are streamed into the file store.
    pub(crate) async fn read(app: &App, request: Request) -> Result<Self, ApiError> {
        let content_type = request
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        let essence = content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase();
        let config = &app.0.config;
        let is_multipart = essence == "multipart/form-data";
        let limit = match is_multipart {
            true => config.max_upload.saturating_add(config.max_body),
            false => config.max_body,
        };
        refuse_early(request.headers(), limit)?;
        if is_multipart {
            let (form, uploads) = multipart::read(app, &content_type, request.into_body()).await?;
            return Ok(Self {
                content: Content::Form(form),
                uploads,
            });
        }
        let body = read_all(request.into_body(), limit).await?;
        let content = match essence.as_str() {
            "application/json" => parse_object(&body).map(Content::Json),
            "application/x-www-form-urlencoded" => urlencoded::parse(&body).map(Content::Form),
            _ if body.is_empty() => Ok(Content::Form(Form::default())),
            other => Err(ApiError::with(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                format!(
                    "A body of type {other:?} is not understood; expected multipart/form-data, \
                     application/x-www-form-urlencoded or application/json."
                ),
            )),
        };
        content.map(|content| Self {
            content,
            uploads: Uploads::default(),
        })
    }

    /// An object that was read already.
    pub(crate) fn of(object: Map<String, Value>) -> Self {
        Self {
            content: Content::Json(object),
            uploads: Uploads::default(),
        }
    }

    /// Checks what was sent against a form's rules.
    pub(crate) fn check(&self, parameters: &Parameters) -> Checked {
        match &self.content {
            Content::Form(form) => parameters.check_form(form),
            Content::Json(object) => parameters.check_json(object.clone()),
        }
    }

    /// Where wrong fields stood.
    pub(crate) fn location(&self) -> Location {
        match &self.content {
            Content::Form(_) => Location::Form,
            Content::Json(_) => Location::Json,
        }
    }

    /// Takes out the labels for the task, which are no parameters of the plugin.
    pub(crate) fn take_labels(&mut self) -> Result<Vec<String>, ApiError> {
        let labels = self
            .take_option(LABEL)
            .into_iter()
            .map(|value| match value {
                Value::String(label) => Ok(label),
                _ => Err("Not a valid list of labels.".to_owned()),
            });
        let labels = labels.collect::<Result<Vec<_>, _>>();
        labels
            .and_then(check_labels)
            .map_err(|problem| self.wrong(LABEL, problem))
    }

    /// Takes out what is said about the task and is no parameter of the plugin: each value that was sent. Empty
    /// fields of a form say nothing.
    pub(crate) fn take_option(&mut self, name: &str) -> Vec<Value> {
        match &mut self.content {
            Content::Form(form) => {
                let texts = form.all(name).filter_map(|value| match value {
                    FormValue::Text(text) if !text.is_empty() => Some(json!(text)),
                    _ => None,
                });
                texts.collect()
            }
            Content::Json(object) => match object.shift_remove(name) {
                None | Some(Value::Null) => Vec::new(),
                Some(Value::Array(values)) => values,
                Some(value) => vec![value],
            },
        }
    }

    /// What is wrong with one field.
    pub(crate) fn wrong(&self, name: &str, problem: impl Into<String>) -> ApiError {
        let errors = FieldErrors::from([(name.to_owned(), vec![problem.into()])]);
        ApiError::fields(self.location(), errors)
    }

    /// What stands in it; the files that came with it are removed.
    pub(crate) fn into_content(self) -> Content {
        self.content
    }

    /// Those of the files that came with it that are wanted; the others are removed.
    pub(crate) fn into_uploads(self, wanted: &[Upload]) -> Uploads {
        self.uploads.only(wanted)
    }
}

/// Reads a JSON object.
pub(crate) fn parse_object(body: &[u8]) -> Result<Map<String, Value>, ApiError> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(ApiError::invalid_json("expected an object")),
        Err(error) if is_nested_too_deeply(&error) => {
            let errors = FieldErrors::from([(String::new(), vec![NESTED.to_owned()])]);
            Err(ApiError::fields(Location::Json, errors))
        }
        Err(error) => Err(ApiError::invalid_json(&error.to_string())),
    }
}

/// A body that says itself that it is too large need not be sent.
fn refuse_early(headers: &HeaderMap, limit: u64) -> Result<(), ApiError> {
    let length = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        Some(length) if limit < length => Err(ApiError::too_large("body", limit)),
        _ => Ok(()),
    }
}

/// Reads a body into memory.
pub(crate) async fn read_all(body: Body, limit: u64) -> Result<Bytes, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|error| match Slow::of(&error) {
            Some(slow) => ApiError::slow(slow),
            None => ApiError::bad_request(format!("The body could not be read: {error}")),
        })?;
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ApiError::too_large("body", limit));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.into())
}
