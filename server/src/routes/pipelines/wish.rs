//! What is wanted by `POST /pipelines/`: a pipeline, its parameters, and what is said about its task.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use runner_core::parameters::{FieldErrors, Parameters};
use runner_core::pipeline::{DOCUMENT, PARAMETERS};
use runner_core::task::{Dispatch, Priority};
use runner_host::modules::Table;
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::types::ItemType;
use runner_pipeline::{Catalog, Checked, Foreign, Format, Graph};
use serde_json::{Map, Value, json};

use crate::app::App;
use crate::body::{Content, Sent, read_all};
use crate::error::{ApiError, Location};

/// What is wanted.
pub(super) struct Wish {
    /// The parameters of the task: the pipeline and its own.
    pub(super) parameters: Map<String, Value>,
    pub(super) labels: Vec<String>,
    pub(super) dispatch: Dispatch,
    /// The nodes at which items leave.
    pub(super) outputs: Vec<String>,
}

impl Wish {
    /// Reads and checks it. The body is a pipeline, or an object with `pipeline` and `parameters`.
    pub(super) async fn read(
        app: &App,
        request: Request,
        usual: Priority,
        submitter: String,
    ) -> Result<Self, ApiError> {
        let mut sent = read(app, request).await?;
        let labels = sent.take_labels()?;
        let dispatch = sent.take_dispatch(usual, submitter)?;
        let Content::Json(body) = sent.into_content() else {
            return Err(wrong("", "Expected a pipeline: an object with nodes."));
        };
        let (document, given) = parts(body)?;
        let graph = Graph::from_json(&document);
        let graph = graph.map_err(|error| wrong(DOCUMENT, &error.to_string()))?;
        let form = match graph.parameters.is_null() {
            true => json!({"type": "object", "properties": {}}),
            false => graph.parameters.clone(),
        };
        let form = Parameters::new(form);
        let form = form.map_err(|error| wrong(DOCUMENT, &format!("parameters: {error}")))?;
        let table = app.0.modules.table();
        let known = Known(&table);
        let checked = Checked::new(graph, &known);
        let checked = checked.map_err(|error| wrong(DOCUMENT, &error.to_string()))?;
        let values = form.check_json(given).into_result();
        let values = values.map_err(|errors| ApiError::fields(Location::Json, errors))?;
        let outputs = checked.outputs().map(|node| node.name.clone()).collect();
        let mut parameters = Map::new();
        parameters.insert(DOCUMENT.to_owned(), document);
        parameters.insert(PARAMETERS.to_owned(), Value::Object(values));
        require_size(app, &parameters)?;
        Ok(Self {
            parameters,
            labels,
            dispatch,
            outputs,
        })
    }
}

async fn read(app: &App, request: Request) -> Result<Sent, ApiError> {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let format = match essence.to_ascii_lowercase().as_str() {
        "application/yaml" | "application/x-yaml" | "text/yaml" => Format::Yaml,
        "application/toml" => Format::Toml,
        _ => return Sent::read(app, request).await,
    };
    let body = read_all(request.into_body(), app.0.config.max_body).await?;
    let text = std::str::from_utf8(&body).map_err(|error| wrong("", &error.to_string()))?;
    match format.read(text) {
        Ok(Value::Object(object)) => Ok(Sent::of(object)),
        Ok(_) => Err(wrong("", "Expected an object.")),
        Err(error) => Err(wrong("", &error.to_string())),
    }
}

/// The pipeline and its parameters.
fn parts(mut body: Map<String, Value>) -> Result<(Value, Map<String, Value>), ApiError> {
    let Some(document) = body.shift_remove(DOCUMENT) else {
        return Ok((Value::Object(body), Map::new()));
    };
    let given = match body.shift_remove(PARAMETERS) {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(given)) => given,
        Some(_) => return Err(wrong(PARAMETERS, "Expected an object.")),
    };
    if let Some(key) = body.keys().next() {
        return Err(wrong(key, "Unknown field."));
    }
    match document {
        Value::String(text) => match Format::Yaml.read(&text) {
            Ok(document) => Ok((document, given)),
            Err(error) => Err(wrong(DOCUMENT, &error.to_string())),
        },
        document => Ok((document, given)),
    }
}

fn require_size(app: &App, parameters: &Map<String, Value>) -> Result<(), ApiError> {
    let limit = app.0.config.max_parameters;
    let size = serde_json::to_vec(parameters).map_or(0, |text| text.len() as u64);
    match size > limit {
        true => Err(ApiError::with(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!(
                "The pipeline and its parameters have {size} bytes; the limit is {limit}. Let sources read URLs."
            ),
        )),
        false => Ok(()),
    }
}

fn wrong(key: &str, message: &str) -> ApiError {
    let errors = FieldErrors::from([(key.to_owned(), vec![message.to_owned()])]);
    ApiError::fields(Location::Json, errors)
}

/// The plugins that are loaded. What they are given is checked when they are called.
struct Known<'a>(&'a Table);

impl Catalog for Known<'_> {
    fn find(&self, node: &NodeSpec) -> Result<Option<Foreign>, String> {
        let name = node.uses.as_str();
        let is_same = || {
            let mut plugins = self.0.plugins().iter();
            plugins.any(|provided| provided.plugin.identity.to_string() == name)
        };
        let is_known = self.0.plugin(name).is_some() || self.0.newest(name).is_some() || is_same();
        Ok(is_known.then_some(Foreign {
            takes: ItemType::Any,
            gives: ItemType::Any,
        }))
    }
}
