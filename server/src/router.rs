//! All routes and layers; the only place where paths stand.

use std::convert::Infallible;

use axum::Router;
use axum::extract::Request;
use axum::http::header::LOCATION;
use axum::http::{HeaderValue, Method, StatusCode, Uri};
use axum::middleware::from_fn_with_state;
use axum::response::{Html, IntoResponse, Response};
use tower::util::MapRequestLayer;
use tower::{Service, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;

use crate::access::Access::{self, Admin, Author, Public, User, Viewer};
use crate::app::App;
use crate::base_url::{self, BaseUrl};
use crate::cors;
use crate::error::ApiError;
use crate::incoming::envelope;
use crate::route::Route;
use crate::routes::{
    debug, docs, files, health, metrics, modules, pipelines, plugins, retention, root, sage_cell,
    schedules, sessions, statics, tasks, workers,
};
use crate::sight::http::measure;

/// The whole service.
pub fn router(
    app: App,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send {
    let mut routes = Router::new();
    for route in table() {
        routes = route.add(routes, &app, add_slash);
    }
    if let Some(face) = &app.0.config.sage_cell {
        for route in sage_cell_table(face.access()) {
            routes = route.add(routes, &app, add_slash);
        }
    }
    if app.0.config.development {
        for route in debug_table() {
            routes = route.add(routes, &app, add_slash);
        }
    }
    let routes = routes
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), base_url::check))
        .with_state(app.clone());
    // Around the router, not in it: what a route allows is known only behind all of its layers.
    ServiceBuilder::new()
        .layer(from_fn_with_state(app.clone(), measure))
        .layer(MapRequestLayer::new(single_slashes))
        .layer(from_fn_with_state(app.clone(), envelope::layer))
        .layer(from_fn_with_state(app, cors::layer))
        .service(routes)
}

/// Every route, and what it needs. The document at `/api-spec.json` has each of them: a test compares.
pub(crate) fn table() -> Vec<Route> {
    vec![
        Route::new("/").get(Public, root::show),
        Route::new("/plugins/").get(Viewer, plugins::list),
        Route::new("/plugins/{identifier}/").get(Viewer, plugins::show),
        // A frame cannot show a token; of the form, it is only what is sent with it that matters.
        Route::new("/plugins/{identifier}/ui/")
            .get(Public, plugins::ui::show)
            .post(User, plugins::ui::check),
        Route::new("/plugins/{identifier}/process/").post(User, plugins::process::start),
        Route::new("/plugins/{identifier}/{*path}").any(
            plugins::proxy::dispatch,
            &[
                ("/plugins/{identifier}/{task}/{stepId}-ui/", Method::GET),
                ("/plugins/{identifier}/{task}/{stepId}-ui/", Method::POST),
                (
                    "/plugins/{identifier}/{task}/{stepId}-process/",
                    Method::POST,
                ),
            ],
        ),
        Route::new("/tasks/").get(Viewer, tasks::list::list),
        Route::new("/tasks/{id}/")
            .get(Viewer, tasks::show)
            .post(User, tasks::subscribe)
            .delete(User, tasks::cancel::delete),
        Route::new("/tasks/{id}/cancel").post(User, tasks::cancel::cancel),
        Route::new("/tasks/{id}/retry").post(User, tasks::cancel::retry),
        Route::new("/tasks/{id}/webhooks").get(Viewer, tasks::webhooks::list),
        Route::new("/tasks/{id}/events").get(Viewer, tasks::events::stream),
        Route::new("/tasks/{id}/pipeline").get(Viewer, tasks::pipeline::show),
        Route::new("/tasks/{id}/pipeline/pause").post(User, tasks::pipeline::pause),
        Route::new("/tasks/{id}/pipeline/resume").post(User, tasks::pipeline::resume),
        Route::new("/tasks/{id}/pipeline/drain").post(User, tasks::pipeline::drain),
        // Items may be secret where counts are not.
        Route::new("/tasks/{id}/pipeline/tap").get(User, tasks::pipeline::tap::stream),
        Route::new("/pipelines/").post(Author, pipelines::run),
        // Its tag is the secret.
        Route::new("/files/{id}/").get(Public, files::download),
        Route::new("/modules/")
            .get(Admin, modules::list)
            .post(Admin, modules::load::load),
        Route::new("/modules/{name}/")
            .get(Admin, modules::show)
            .delete(Admin, modules::change::remove),
        Route::new("/modules/{name}/start").post(Admin, modules::change::start),
        Route::new("/modules/{name}/stop").post(Admin, modules::change::stop),
        Route::new("/modules/{name}/reload").post(Admin, modules::change::reload),
        Route::new("/modules/{name}/stats")
            .get(Admin, modules::measure::stats)
            .delete(Admin, modules::measure::reset),
        Route::new("/modules/{name}/rusage").get(Admin, modules::measure::rusage),
        Route::new("/modules/{name}/ping").post(Admin, modules::measure::ping),
        Route::new("/modules/{name}/trace").get(Admin, modules::trace::stream),
        Route::new("/modules/{name}/debug")
            .get(Admin, modules::debug::show)
            .post(Admin, modules::debug::set),
        Route::new("/schedules/")
            .get(Admin, schedules::list)
            .post(Admin, schedules::change::make),
        Route::new("/schedules/{id}/")
            .get(Admin, schedules::show)
            .patch(Admin, schedules::change::change)
            .delete(Admin, schedules::change::remove),
        Route::new("/schedules/{id}/run").post(Admin, schedules::run::run),
        Route::new("/api").get(Public, sessions::version),
        Route::new("/api/kernelspecs").get(Viewer, sessions::specs),
        Route::new("/api/kernelspecs/{name}").get(Viewer, sessions::spec),
        Route::new("/api/kernelspecs/{name}/{file}").get(Viewer, sessions::resource),
        Route::new("/api/kernels")
            .get(Author, sessions::kernels::list)
            .post(Author, sessions::kernels::make),
        Route::new("/api/kernels/{id}")
            .get(Author, sessions::kernels::show)
            .delete(Author, sessions::kernels::remove),
        Route::new("/api/kernels/{id}/interrupt").post(Author, sessions::kernels::interrupt),
        Route::new("/api/kernels/{id}/restart").post(Author, sessions::kernels::restart),
        Route::new("/api/kernels/{id}/channels").get(Author, sessions::channels::connect),
        Route::new("/api/kernels/{id}/stderr").get(Author, sessions::outputs::errors),
        Route::new("/api/kernels/{id}/files")
            .get(Author, sessions::files::list)
            .post(Author, sessions::uploads::post),
        Route::new("/api/kernels/{id}/files.zip").get(Author, sessions::zip::download),
        Route::new("/api/kernels/{id}/files/{*path}")
            .shown_as("/api/kernels/{id}/files/{path}")
            .get(Author, sessions::files::download)
            .put(Author, sessions::uploads::put)
            .post(Author, sessions::uploads::bring)
            .delete(Author, sessions::files::remove),
        // Its tag is the secret.
        Route::new("/api/kernels/{id}/shared/{tag}/{*path}")
            .shown_as("/api/kernels/{id}/shared/{tag}/{path}")
            .get(Public, sessions::files::shared),
        // Its name is the secret.
        Route::new("/api/kernels/{id}/outputs/{name}").get(Public, sessions::outputs::download),
        Route::new("/api/sessions")
            .get(Author, sessions::notebooks::list)
            .post(Author, sessions::notebooks::make),
        Route::new("/api/sessions/{id}")
            .get(Author, sessions::notebooks::show)
            .patch(Author, sessions::notebooks::change)
            .delete(Author, sessions::notebooks::remove),
        Route::new("/retention/").get(Admin, retention::show),
        Route::new("/retention/run").post(Admin, retention::run),
        Route::new("/workers/").get(Admin, workers::list),
        Route::new("/metrics").get(Viewer, metrics::show),
        Route::new("/health/live").get(Public, health::live),
        Route::new("/health/ready").get(Public, health::ready),
        Route::new("/api-spec.json").get(Viewer, docs::document),
        Route::new("/swagger-ui/").get(Public, docs::swagger_ui),
        Route::new("/redoc/").get(Public, docs::redoc),
        Route::new("/rapidoc/").get(Public, docs::rapidoc),
        Route::new("/licenses/").get(Public, docs::licenses),
        Route::new("/static/{name}").get(Public, statics::file),
        Route::new("/static/vendor/{name}").get(Public, docs::bundle),
    ]
}

/// What there is where Sage Cell is switched on, to those who have this access. The document has it there, too.
pub(crate) fn sage_cell_table(access: Access) -> Vec<Route> {
    use sage_cell::sockjs;
    vec![
        Route::new("/kernel").post(access, sage_cell::kernel::make),
        Route::new("/kernel/{id}")
            .post(access, sage_cell::kernel::change)
            .delete(access, sage_cell::kernel::remove),
        Route::new("/kernel/{id}/channels").get(access, sage_cell::channels::connect),
        Route::new("/kernel/{id}/files").get(access, sage_cell::files::list),
        Route::new("/kernel/{id}/files/{*path}")
            .shown_as("/kernel/{id}/files/{path}")
            .get(access, sage_cell::files::download)
            .put(access, sage_cell::files::upload),
        Route::new("/sockjs/").get(access, sockjs::welcome),
        Route::new("/sockjs/info").get(access, sockjs::info),
        Route::new("/sockjs/{server}/{session}/websocket").get(access, sockjs::websocket::connect),
        Route::new("/sockjs/{server}/{session}/xhr").post(access, sockjs::xhr::poll),
        Route::new("/sockjs/{server}/{session}/xhr_streaming").post(access, sockjs::xhr::stream),
        Route::new("/sockjs/{server}/{session}/xhr_send").post(access, sockjs::xhr::send),
        Route::new("/service").post(access, sage_cell::service::run),
        Route::new("/permalink")
            .get(access, sage_cell::permalink::show)
            .post(access, sage_cell::permalink::make),
        Route::new("/tos.html")
            .get(Public, sage_cell::terms::show)
            .post(Public, sage_cell::terms::ask),
        // The page shows nothing of anybody; what it asks for needs a token where the rest does.
        Route::new("/cell/").get(Public, sage_cell::page::index),
        Route::new("/cell/{name}").get(Public, sage_cell::page::file),
        Route::new("/static/embedded_sagecell.js").get(Public, sage_cell::page::embedded),
    ]
}

/// What there is in development only; not in the document.
pub(crate) fn debug_table() -> Vec<Route> {
    vec![
        Route::new("/debug/").get(Viewer, debug::index),
        Route::new("/debug/routes").get(Viewer, debug::routes),
        Route::new("/debug/frontend-debugger").get(Viewer, debug::frontend_debugger),
    ]
}

/// The way to a path with its slash.
pub(crate) async fn add_slash(base: BaseUrl, uri: Uri) -> Response {
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

pub(crate) fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("a panic");
    tracing::error!("a request failed with an error of the runner: {text}");
    ApiError::new(StatusCode::INTERNAL_SERVER_ERROR).into_response()
}
