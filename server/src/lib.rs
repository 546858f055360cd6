//! HTTP: routes, forms, errors.
//!
//! # Layout
//! - [`App`]: what the routes share. [`ServerConfig`]: the settings.
//! - [`router`]: all routes and layers; the only place where paths stand. `route`: one row of its table.
//! - `access`: who may ask for what. [`auth`]: who asks. `token`: what is shown, and the one of the installation.
//! - `incoming`: connections and their limits, hosts, what every request and every answer has.
//! - `routes`: one file per resource and verb.
//! - `body`: what was sent, as a form or JSON. `forms`: pages with forms.
//! - `base_url`: under which URL the client knows the runner. `cors`: who may read answers.
//! - `openapi`: the document of all routes and plugins. `licenses`: what the runner is made of.
//! - [`SageCell`]: what the routes of Sage Cell share, where they are switched on.
//! - `relay`: sessions that live in other processes.
//! - `sse`: answers that are streams of server-sent events. `socket`: WebSockets to kernels.
//! - [`Sight`]: numbers and health of the process, also for one that answers nothing else.
//! - `error`: every error as the JSON that clients expect.

mod access;
mod app;
pub mod auth;
mod base_url;
mod body;
mod cors;
mod error;
mod forms;
mod incoming;
mod licenses;
mod openapi;
mod relay;
mod route;
mod router;
mod routes;
mod sage_cell;
mod sight;
mod socket;
mod sse;
mod token;

pub use app::{App, ServerConfig};
pub use cors::Origins;
pub use incoming::{Hosts, Limits, MIN_HEAD, serve};
pub use licenses::{Component, licenses};
pub use openapi::openapi;
pub use relay::serve_links;
pub use router::router;
pub use sage_cell::{SageCell, SageCellConfig};
pub use sight::{Recorded, Sight, SightParts, record, serve_sight};
