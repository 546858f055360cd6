use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use runner_core::retention::Retention;
use runner_host::Modules;
use runner_queue::{Events, Queue};
use runner_session::{Notebooks, Sessions};
use runner_store::Store;

use crate::auth::Auth;
use crate::cors::Origins;
use crate::forms::Pages;
use crate::incoming::envelope::InProgress;
use crate::incoming::{Hosts, Limits};
use crate::openapi;
use crate::relay::placement::{self, Placement};
use crate::relay::{Kind, Relay};
use crate::sage_cell::SageCell;
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
    /// Kernels of clients, where this process has any.
    pub(crate) sessions: Option<Sessions>,
    /// The workers that have kernels, where this process has none.
    pub(crate) relay: Option<Relay>,
    /// Jupyter's names for them.
    pub(crate) notebooks: Notebooks,
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
    /// The face of Sage Cell, where it is switched on.
    pub sage_cell: Option<SageCell>,
    /// Whether clients may have the sessions of workers, where this process has none.
    pub relays: bool,
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
            sage_cell: None,
            relays: false,
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
        sessions: Option<Sessions>,
        sight: Sight,
        config: ServerConfig,
    ) -> Self {
        let sage_cell = config.sage_cell.as_ref().map(SageCell::access);
        let links = match sessions.is_none() && config.relays {
            true => queue.links(),
            false => None,
        };
        Self(Arc::new(Shared {
            relay: links.map(|links| Relay::new(links, Kind::Sessions)),
            store,
            queue,
            events,
            modules,
            sessions,
            notebooks: Notebooks::default(),
            config,
            pages: Pages::new(),
            document: openapi::Kept::new(sage_cell),
            in_progress: InProgress::default(),
            sight,
            meters: HttpMeters::new(),
        }))
    }

    /// The workers that answer what is placed so, where it is not this process.
    pub(crate) fn relay(&self, placement: Placement) -> Option<&Relay> {
        let cells = || self.0.config.sage_cell.as_ref().and_then(SageCell::there);
        match placement {
            Placement::Local => None,
            Placement::Cell => cells(),
            Placement::Output => self.0.relay.as_ref().or_else(cells),
            _ => self.0.relay.as_ref(),
        }
    }

    /// Whether a route of the table is answered by workers, for some method.
    pub(crate) fn has_relay(&self, route: &str) -> bool {
        let is_placed = |method| self.relay(placement::of(route, method)).is_some();
        [&Method::GET, &Method::POST].into_iter().any(is_placed)
    }
}
