//! All routes and layers; the only place where paths stand.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{MethodRouter, any, get, post};
use tower::util::MapRequestLayer;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

use crate::app::App;
use crate::base_url::{self, BaseUrl};
use crate::error::ApiError;
use crate::routes::{files, modules, plugins, root, statics, tasks};
use crate::{cors, token};

/// The whole service.
pub fn router(
    app: App,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let modules = slashed(Router::new(), "/modules/", get(modules::list))
        .route_layer(from_fn_with_state(app.clone(), token::require));
    let mut routes = Router::new().route("/", get(root::show)).merge(modules);
    for (path, methods) in [
        ("/plugins/", get(plugins::list)),
        ("/plugins/{identifier}/", get(plugins::show)),
        (
            "/plugins/{identifier}/ui/",
            get(plugins::ui::show).post(plugins::ui::check),
        ),
        (
            "/plugins/{identifier}/process/",
            post(plugins::process::start),
        ),
        (
            "/plugins/{identifier}/{task}/{action}/",
            any(plugins::steps::dispatch),
        ),
        ("/tasks/{id}/", get(tasks::show).post(tasks::subscribe)),
        ("/files/{id}/", get(files::download)),
    ] {
        routes = slashed(routes, path, methods);
    }
    let routes = routes
        .route("/static/{name}", get(statics::file))
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), base_url::check))
        .with_state(app);
    // Around the router, not in it: what a route allows is known only behind all of its layers.
    ServiceBuilder::new()
        .layer(MapRequestLayer::new(single_slashes))
        .layer(from_fn(cors::layer))
        .service(routes)
}

/// Adds a route that ends in a slash, and the redirect to it from the path without.
fn slashed(router: Router<App>, path: &str, methods: MethodRouter<App>) -> Router<App> {
    router
        .route(path, methods)
        .route(path.trim_end_matches('/'), any(add_slash))
}

async fn add_slash(base: BaseUrl, uri: Uri) -> Response {
    let query = uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    redirect(
        StatusCode::PERMANENT_REDIRECT,
        &base.url(&format!("{}/{query}", uri.path())),
    )
}

/// A redirect with a line for people.
pub(crate) fn redirect(status: StatusCode, location: &str) -> Response {
    let shown = location
        .replace('&', "&amp;")
        .replace('"', "&quot;")
        .replace('<', "&lt;");
    let page =
        format!("<!doctype html>\n<title>Moved</title>\n<p>See <a href=\"{shown}\">{shown}</a>.\n");
    let mut response = (status, Html(page)).into_response();
    match HeaderValue::from_str(location) {
        Ok(location) => response.headers_mut().insert(LOCATION, location),
        Err(_) => return ApiError::not_found().into_response(),
    };
    response
}

/// `//plugins/` is `/plugins/`.
fn single_slashes(mut request: Request) -> Request {
    let path = request.uri().path();
    if !path.contains("//") {
        return request;
    }
    let mut single = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !single.ends_with('/') {
            single.push(character);
        }
    }
    if let Some(query) = request.uri().query() {
        single.push('?');
        single.push_str(query);
    }
    if let Ok(uri) = Uri::try_from(single) {
        *request.uri_mut() = uri;
    }
    request
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic");
    tracing::error!("a request failed with an error of the runner: {text}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}
