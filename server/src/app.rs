use std::sync::Arc;
use std::time::Duration;

use runner_host::Modules;
use runner_queue::{Events, Queue};
use runner_store::Store;

use crate::forms::Pages;
use crate::openapi;
use crate::sight::Sight;
use crate::sight::http::HttpMeters;

/// What the routes share. Clones are cheap.
#[derive(Clone)]
pub struct App(pub(crate) Arc<Shared>);

pub(crate) struct Shared {
    /// SQL and files.
    pub(crate) store: Store,
    /// Where new jobs go.
    pub(crate) queue: Queue,
    /// Who is told of changes.
    pub(crate) events: Events,
    /// What can be run.
    pub(crate) modules: Arc<Modules>,
    /// The settings.
    pub(crate) config: ServerConfig,
    /// The templates.
    pub(crate) pages: Pages,
    /// The OpenAPI document, kept until the plugins change.
    pub(crate) document: openapi::Kept,
    /// What is to be seen of the process.
    pub(crate) sight: Sight,
    /// What is counted of requests.
    pub(crate) meters: HttpMeters,
}

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The host (and port) by which the runner is known, beside addresses and names without a dot.
    pub server_name: Option<String>,
    /// Reverse proxies whose `X-Forwarded-*` headers are believed.
    pub proxies: usize,
    /// Whether there are pages for people who write plugins and hosts, at `/debug/`.
    pub development: bool,
    /// What must be shown to change the installation, or to see its modules.
    pub token: String,
    /// Bytes of a form or JSON body, without files.
    pub max_body: u64,
    /// Bytes of the parameters of a task, as JSON.
    pub max_parameters: u64,
    /// Bytes of the files of a form.
    pub max_upload: u64,
    /// Bytes that must be free on the disk for a task to be accepted.
    pub disk_floor: u64,
    /// How long a process of the installation may be silent.
    pub lease: Duration,
    /// How long a plugin may take to begin its answer to a request to one of its own routes.
    pub route_timeout: Duration,
    /// How long `GET /plugins/` waits for modules that are still being described.
    pub plugins_wait: Duration,
}

impl App {
    /// Puts together what the routes share.
    pub fn new(
        store: Store,
        queue: Queue,
        events: Events,
        modules: Arc<Modules>,
        sight: Sight,
        config: ServerConfig,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            queue,
            events,
            modules,
            config,
            pages: Pages::new(),
            document: openapi::Kept::default(),
            sight,
            meters: HttpMeters::new(),
        }))
    }
}
