//! The OpenAPI document of the runner and of every loaded plugin.
//!
//! # Layout
//! - `routes`: the operations of the runner itself; `keeping`: those of schedules and retention;
//!   `modules`: those of modules. `sessions`: those of sessions. `sage_cell`: those of Sage Cell. `plugins`: those of one plugin.
//! - `forms`: what a plugin's parameters look like in JSON and in a form.
//! - `schemas`: the JSON that is answered. `parts`: parameters, answers, errors that many operations share.
//!
//! Operations are built with [`utoipa`], which keeps their structure right. Schemas stay JSON: those of
//! plugins may have any keyword of JSON Schema 2020-12, which utoipa's types cannot hold.

mod forms;
mod keeping;
mod modules;
mod parts;
mod pipelines;
mod plugins;
mod routes;
mod sage_cell;
mod schemas;
mod sessions;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use runner_core::plugin::Plugin;
use runner_host::modules::Table;
use serde::Serialize;
use serde_json::{Map, Value, json};
use utoipa::openapi::path::{HttpMethod, Operation, Paths};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::tag::Tag;
use utoipa::openapi::{ComponentsBuilder, Info, License, OpenApiBuilder, OpenApiVersion};

use crate::access::Access;

/// What holds for all routes; Markdown.
const DESCRIPTION: &str = "\
A plugin runner: every plugin is a documented service, every invocation a task.

- A path that ends in a slash is reached without it, too: 308, with the query kept.
- Errors are JSON: `code`, `status`, mostly `message`, and `errors` with what is wrong at which field.
- GET routes answer HEAD. Every route answers OPTIONS; other methods get 405 and `Allow`.
- A plugin may have routes of its own: `{path}` below its path. What they are, who wrote it describes.
- In forms, a list is a repeated field, or one text with its items separated by commas or line breaks.
- Without a `SERVER_NAME`, `Host` must be an IP address, a loopback name or a name without a dot.
- Roles are `viewer`, `user` and `admin`; each may what those before it may. A token is shown as \
`Authorization: Bearer …` or `?token=…`; one that is wrong is answered with 401. Where a server \
requires none, the operations of viewers and users are open.
- Every answer has an `X-Request-Id`: that of the request, or a new one. Each request may be answered with 503 and \
`Retry-After` when there are too many, and with 408 when its body does not come in time.";

/// The document for a state of the modules. `base` is the URL by which clients know the runner, without
/// a slash at the end.
pub fn openapi(table: &Table, base: &str) -> Value {
    let document = document(plugins_of(table), None);
    serde_json::to_value(WithServer::new(&document, base)).unwrap_or_default()
}

/// A document, kept until the plugins change.
pub(crate) struct Kept {
    /// What the routes of Sage Cell need, where they are.
    sage_cell: Option<Access>,
    made: Mutex<Option<Made>>,
}

/// What a document was made of, and the document.
type Made = (Arc<Table>, Arc<Map<String, Value>>);

impl Kept {
    pub(crate) fn new(sage_cell: Option<Access>) -> Self {
        Self {
            sage_cell,
            made: Mutex::default(),
        }
    }

    /// The document without its servers: these follow the request.
    pub(crate) fn of(&self, table: &Arc<Table>) -> Arc<Map<String, Value>> {
        let mut kept = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some((of, document)) if Arc::ptr_eq(of, table) => Arc::clone(document),
            _ => {
                let document = Arc::new(document(plugins_of(table), self.sage_cell));
                *kept = Some((Arc::clone(table), Arc::clone(&document)));
                document
            }
        }
    }
}

/// The text of a document with its server.
pub(crate) fn with_server(document: &Map<String, Value>, base: &str) -> Vec<u8> {
    // Text as keys cannot fail to be JSON.
    serde_json::to_vec(&WithServer::new(document, base)).unwrap_or_default()
}

#[derive(Serialize)]
struct WithServer<'a> {
    openapi: OpenApiVersion,
    servers: [Server<'a>; 1],
    #[serde(flatten)]
    rest: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct Server<'a> {
    url: &'a str,
}

impl<'a> WithServer<'a> {
    fn new(document: &'a Map<String, Value>, base: &'a str) -> Self {
        Self {
            openapi: OpenApiVersion::Version31,
            servers: [Server { url: base }],
            rest: document,
        }
    }
}

/// Collects operations and schemas. Both are sorted by their names.
#[derive(Default)]
struct Parts {
    paths: Paths,
    schemas: std::collections::BTreeMap<String, Value>,
    tags: Vec<Tag>,
}

impl Parts {
    /// Adds an operation, with what it needs, and what is answered to those who may not.
    fn add(
        &mut self,
        path: &str,
        method: HttpMethod,
        access: Access,
        operation: impl Into<Operation>,
    ) {
        let mut operation = operation.into();
        operation.security = Some(parts::security(access));
        parts::refusals(&mut operation, access);
        self.paths.add_path_operation(path, vec![method], operation);
    }
}

fn plugins_of(table: &Table) -> impl Iterator<Item = &Plugin> {
    table.plugins().iter().map(|provided| &*provided.plugin)
}

fn document<'a>(
    plugins: impl Iterator<Item = &'a Plugin>,
    sage_cell: Option<Access>,
) -> Map<String, Value> {
    let mut parts = Parts {
        schemas: schemas::all(),
        ..Parts::default()
    };
    routes::add(&mut parts);
    keeping::add(&mut parts);
    modules::add(&mut parts);
    pipelines::add(&mut parts);
    sessions::add(&mut parts);
    if let Some(access) = sage_cell {
        sage_cell::add(&mut parts, access);
    }
    for plugin in plugins {
        plugins::add(&mut parts, plugin);
    }
    let bearer = Http::builder()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A JSON Web Token with the role, or the token in the instance folder's file `token`, which is an \
             administrator's. Where AUTH is off, only that one, and only for administrators.",
        ))
        .build();
    let query = ApiKeyValue::with_description("token", "The same token, for a link.");
    let components = parts::errors()
        .into_iter()
        .fold(ComponentsBuilder::new(), |components, (name, answer)| {
            components.response(name, answer)
        })
        .security_scheme("bearer", SecurityScheme::Http(bearer))
        .security_scheme("query", SecurityScheme::ApiKey(ApiKey::Query(query)));
    let mut license = License::new(env!("CARGO_PKG_LICENSE"));
    license.identifier = Some(env!("CARGO_PKG_LICENSE").to_owned());
    let mut info = Info::new("runner", env!("CARGO_PKG_VERSION"));
    info.description = Some(DESCRIPTION.to_owned());
    info.license = Some(license);
    let document = OpenApiBuilder::new()
        .info(info)
        .tags(Some(parts.tags))
        .paths(parts.paths)
        .components(Some(components.build()))
        .build();
    let mut document = match serde_json::to_value(document) {
        Ok(Value::Object(document)) => document,
        // What utoipa builds is an object.
        _ => Map::new(),
    };
    document.shift_remove("openapi");
    document["components"]["schemas"] = json!(parts.schemas);
    document
}
