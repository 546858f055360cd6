//! A route: a path, what answers it, and under which names the OpenAPI document has it.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, any};

use crate::app::App;
use crate::token;

/// One row of the table in [`crate::router`].
pub(crate) struct Route {
    path: &'static str,
    handlers: MethodRouter<App>,
    documented: Vec<(&'static str, Method)>,
    needs_token: bool,
}

impl Route {
    /// A path that nothing answers yet. One that ends in a slash is also reached without it.
    pub(crate) fn new(path: &'static str) -> Self {
        Self {
            path,
            handlers: MethodRouter::new(),
            documented: Vec::new(),
            needs_token: false,
        }
    }

    /// Answers GET, and HEAD without a body.
    pub(crate) fn get<T: 'static>(mut self, handler: impl Handler<T, App>) -> Self {
        self.documented.push((self.path, Method::GET));
        self.handlers = self.handlers.get(handler);
        self
    }

    /// Answers POST.
    pub(crate) fn post<T: 'static>(mut self, handler: impl Handler<T, App>) -> Self {
        self.documented.push((self.path, Method::POST));
        self.handlers = self.handlers.post(handler);
        self
    }

    /// Answers DELETE.
    pub(crate) fn delete<T: 'static>(mut self, handler: impl Handler<T, App>) -> Self {
        self.documented.push((self.path, Method::DELETE));
        self.handlers = self.handlers.delete(handler);
        self
    }

    /// Answers whatever the handler takes; the document has it under these paths and methods.
    pub(crate) fn any<T: 'static>(
        mut self,
        handler: impl Handler<T, App>,
        documented: &[(&'static str, Method)],
    ) -> Self {
        self.documented.extend_from_slice(documented);
        self.handlers = any(handler);
        self
    }

    /// Lets only those in who show the token of the installation.
    pub(crate) fn with_token(mut self) -> Self {
        self.needs_token = true;
        self
    }

    /// Under which paths and methods the OpenAPI document has it.
    pub(crate) fn documented(&self) -> &[(&'static str, Method)] {
        &self.documented
    }

    /// Whether only those are let in who show the token.
    pub(crate) fn needs_token(&self) -> bool {
        self.needs_token
    }

    /// Adds it to a router; `add_slash` answers the path without the slash.
    pub(crate) fn add<T: 'static>(
        self,
        router: Router<App>,
        app: &App,
        add_slash: impl Handler<T, App>,
    ) -> Router<App> {
        let mut own = Router::new().route(self.path, self.handlers);
        if self.path.len() > 1 && self.path.ends_with('/') {
            own = own.route(self.path.trim_end_matches('/'), any(add_slash));
        }
        if self.needs_token {
            own = own.route_layer(from_fn_with_state(app.clone(), token::require));
        }
        router.merge(own)
    }
}
