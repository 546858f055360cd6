//! HTTP: routes, forms, errors.
//!
//! # Layout
//! - [`App`]: what the routes share. [`ServerConfig`]: the settings.
//! - [`router`]: all routes and layers; the only place where paths stand. `route`: one row of its table.
//! - `access`: who may ask for what. `token`: the one of the installation.
//! - `routes`: one file per resource and verb.
//! - `body`: what was sent, as a form or JSON. `forms`: pages with forms.
//! - `base_url`: which host a request was made to, and whether it may be. `cors`: who may read answers.
//! - `openapi`: the document of all routes and plugins. `licenses`: what the runner is made of.
//! - [`Sight`]: numbers and health of the process, also for one that answers nothing else.
//! - `error`: every error as the JSON that clients expect.

mod access;
mod app;
mod base_url;
mod body;
mod cors;
mod error;
mod forms;
mod licenses;
mod openapi;
mod route;
mod router;
mod routes;
mod sight;
mod token;

use std::net::SocketAddr;

use axum::ServiceExt;
use tokio::net::TcpListener;

pub use app::{App, ServerConfig};
pub use licenses::{Component, licenses};
pub use openapi::openapi;
pub use router::router;
pub use sight::{Recorded, Sight, SightParts, record, serve_sight};

/// Answers requests until `shutdown` is done, then lets those in progress end.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let service = router(app);
    let service = ServiceExt::<axum::extract::Request>::into_make_service_with_connect_info::<
        SocketAddr,
    >(service);
    axum::serve(listener, service)
        .with_graceful_shutdown(shutdown)
        .await
}
