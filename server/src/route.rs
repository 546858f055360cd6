//! A route: a path, what answers it and to whom, and under which names the OpenAPI document has it.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{MethodRouter, any};
use tower::util::MapResponseLayer;

use crate::access::{Access, Rules, guard};
use crate::app::App;
use crate::auth::Mode;
use crate::relay;
use crate::sight::http::RouteName;

/// One row of the table in [`crate::router`].
pub(crate) struct Route {
    path: &'static str,
    /// Its path in the document.
    shown: &'static str,
    handlers: MethodRouter<App>,
    documented: Vec<Documented>,
    rules: Rules,
}

/// A path and a method as the OpenAPI document has them, and what they need.
pub(crate) type Documented = (&'static str, Method, Access);

impl Route {
    /// A path that nothing answers yet. One that ends in a slash is also reached without it.
    pub(crate) fn new(path: &'static str) -> Self {
        Self {
            path,
            shown: path,
            handlers: MethodRouter::new(),
            documented: Vec::new(),
            rules: Rules::default(),
        }
    }

    /// The document has it under this path: it knows no parameters of several segments.
    pub(crate) fn shown_as(mut self, path: &'static str) -> Self {
        self.shown = path;
        self
    }

    /// Its path.
    pub(crate) fn path(&self) -> &'static str {
        self.path
    }

    /// Answers PUT to those who have this access.
    pub(crate) fn put<T: 'static>(mut self, access: Access, handler: impl Handler<T, App>) -> Self {
        self.declare(Method::PUT, access);
        self.handlers = self.handlers.put(handler);
        self
    }

    /// Answers GET, and HEAD without a body, to those who have this access.
    pub(crate) fn get<T: 'static>(mut self, access: Access, handler: impl Handler<T, App>) -> Self {
        self.declare(Method::GET, access);
        self.handlers = self.handlers.get(handler);
        self
    }

    /// Answers POST to those who have this access.
    pub(crate) fn post<T: 'static>(
        mut self,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.declare(Method::POST, access);
        self.handlers = self.handlers.post(handler);
        self
    }

    /// Answers PATCH to those who have this access.
    pub(crate) fn patch<T: 'static>(
        mut self,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.declare(Method::PATCH, access);
        self.handlers = self.handlers.patch(handler);
        self
    }

    /// Answers DELETE to those who have this access.
    pub(crate) fn delete<T: 'static>(
        mut self,
        access: Access,
        handler: impl Handler<T, App>,
    ) -> Self {
        self.declare(Method::DELETE, access);
        self.handlers = self.handlers.delete(handler);
        self
    }

    /// Answers whatever the handler takes: what is safe to those who may look, all else to those who may
    /// run something. The document has it under these paths and methods.
    pub(crate) fn any<T: 'static>(
        mut self,
        handler: impl Handler<T, App>,
        documented: &[(&'static str, Method)],
    ) -> Self {
        for method in [Method::GET, Method::OPTIONS, Method::TRACE] {
            self.rules.add(method, Access::Viewer);
        }
        self.rules.others(Access::User);
        for (path, method) in documented {
            // All methods have a rule now.
            if let Some(access) = self.rules.of(method) {
                self.documented.push((path, method.clone(), access));
            }
        }
        self.handlers = any(handler);
        self
    }

    fn declare(&mut self, method: Method, access: Access) {
        self.documented.push((self.shown, method.clone(), access));
        self.rules.add(method, access);
    }

    /// Under which paths and methods the OpenAPI document has it, and what they need.
    pub(crate) fn documented(&self) -> &[Documented] {
        &self.documented
    }

    /// Adds it to a router of a process that is asked by others of the installation, which have checked who asks.
    pub(crate) fn add_unguarded(self, router: Router<App>) -> Router<App> {
        router.route(self.path, self.handlers)
    }

    /// Adds it to a router; `add_slash` answers the path without the slash.
    pub(crate) fn add<T: 'static>(
        self,
        router: Router<App>,
        app: &App,
        add_slash: impl Handler<T, App>,
    ) -> Router<App> {
        let mut own = Router::new().route(self.path, self.handlers);
        let is_open = app.0.config.auth.mode() == Mode::Off && !self.rules.are_closed();
        let rules = Arc::new(self.rules);
        if app.has_relay(self.path) {
            let placed = relay::Placed {
                app: app.clone(),
                route: self.path,
                rules: Arc::clone(&rules),
            };
            own = own.route_layer(from_fn_with_state(placed, relay::place));
        }
        if !is_open {
            own = own.route_layer(from_fn_with_state((app.clone(), rules), guard));
        }
        let name = RouteName(self.path);
        let named = move |mut response: Response| {
            response.extensions_mut().insert(name);
            response
        };
        own = own.route_layer(MapResponseLayer::new(named));
        // The way to a path tells nothing of it.
        let own = match self.path.strip_suffix('/') {
            None | Some("") => own,
            Some(path) => own.route(path, any(add_slash)),
        };
        router.merge(own)
    }
}
