use std::sync::Arc;
use std::time::Duration;

use runner_core::retention::Retention;
use runner_host::Modules;
use runner_queue::{Events, Queue};
use runner_store::Store;

use crate::auth::Auth;
use crate::cors::Origins;
use crate::forms::Pages;
use crate::incoming::envelope::InProgress;
use crate::incoming::{Hosts, Limits};
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
    /// How many requests are being answered.
    pub(crate) in_progress: InProgress,
    /// What is to be seen of the process.
    pub(crate) sight: Sight,
    /// What is counted of requests.
    pub(crate) meters: HttpMeters,
}

/// Settings of the server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The host (and port) by which the runner is known.
    pub server_name: Option<String>,
    /// Which hosts are served.
    pub hosts: Hosts,
    /// Which origins may read answers.
    pub origins: Origins,
    /// Who may ask for what.
    pub auth: Auth,
    /// How much may come in, and how slowly.
    pub limits: Limits,
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
    /// What is kept for how long.
    pub retention: Retention,
    /// How long a process of the installation may be silent.
    pub lease: Duration,
    /// How long a plugin may take to begin its answer to a request to one of its own routes.
    pub route_timeout: Duration,
    /// How long `GET /plugins/` waits for modules that are still being described.
    pub plugins_wait: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            server_name: None,
            hosts: Hosts::default(),
            origins: Origins::default(),
            auth: Auth::off(),
            limits: Limits::default(),
            proxies: 0,
            development: false,
            token: String::new(),
            max_body: 16 << 20,
            max_parameters: 1_000_000,
            max_upload: 1 << 30,
            disk_floor: 1 << 30,
            retention: Retention::default(),
            lease: Duration::from_secs(15),
            route_timeout: Duration::from_secs(60),
            plugins_wait: Duration::from_secs(4),
        }
    }
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
            in_progress: InProgress::default(),
            sight,
            meters: HttpMeters::new(),
        }))
    }
}
