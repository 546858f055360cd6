//! The side of the worker: links of servers are connections, and the routes of kernels answer on them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn;
use axum::response::Response;
use futures::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use runner_queue::{LinkProgress, LinkStream, Links};
use runner_session::{Notebooks, Sessions};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;

use super::holder::Holder;
use super::{Kind, Relay, placement};
use crate::app::App;
use crate::error::ApiError;
use crate::router::{panicked, sage_cell_table, table};
use crate::sage_cell::SageCell;

/// Links that are served at a time; more are refused.
const MAX_LINKS: usize = 4096;
/// How long the head of a request may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer waits until other servers can find what began with it.
const TOLD: Duration = Duration::from_secs(2);

/// How far the server has taken what was written to it. It stands with each request that came over a link.
#[derive(Debug, Clone)]
pub(crate) struct Delivery(pub(crate) LinkProgress);

/// Serves the kernels of this process to servers, until `shutdown` is done; then they find nothing here any more.
pub async fn serve_links(
    links: Links,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) {
    let holders: Arc<[Holder]> = holders(&links, &app).into();
    let service = routes(app);
    let room = Arc::new(Semaphore::new(MAX_LINKS));
    let mut opened = links.listen();
    let work = async {
        while let Some(link) = opened.next().await {
            // Who finds no room hears of it at once.
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                continue;
            };
            let (service, holders) = (service.clone(), Arc::clone(&holders));
            tokio::spawn(async move {
                serve(link, service, holders).await;
                drop(permit);
            });
        }
    };
    tokio::select! {
        () = work => {}
        _ = join_all(holders.iter().map(Holder::keep)) => {}
        () = shutdown => {}
    }
    join_all(holders.iter().map(Holder::leave)).await;
}

/// What tells of each kind of kernels that is here.
fn holders(links: &Links, app: &App) -> Vec<Holder> {
    let holder = |kind: Kind, kernels: &Sessions, notebooks: &Notebooks| {
        let places = links.places(kind.name());
        Holder::new(places, kernels.clone(), notebooks.clone())
    };
    let sessions = app.0.sessions.as_ref();
    let sessions = sessions.map(|sessions| holder(Kind::Sessions, sessions, &app.0.notebooks));
    let cells = app.0.config.sage_cell.as_ref().and_then(SageCell::here);
    // Nothing names them but their ids.
    let cells = cells.map(|cells| holder(Kind::Cells, cells, &Notebooks::default()));
    sessions.into_iter().chain(cells).collect()
}

async fn serve<S>(link: LinkStream, service: S, holders: Arc<[Holder]>)
where
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let delivery = Delivery(link.progress());
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(delivery.clone());
        let (service, holders) = (service.clone(), Arc::clone(&holders));
        async move {
            let is_look = matches!(*request.method(), Method::GET | Method::HEAD);
            let answer = service.oneshot(request).await;
            let begins = |answer: &Response| answer.status() == StatusCode::SWITCHING_PROTOCOLS;
            if !is_look || answer.as_ref().is_ok_and(begins) {
                // Where Redis is away, they find it later.
                let telling = join_all(holders.iter().map(Holder::tell_changes));
                let _ = tokio::time::timeout(TOLD, telling).await;
            }
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(link), service);
    // Servers hang up, and are gone; it is nothing to tell.
    let _ = connection.with_upgrades().await;
}

/// The routes that have a place. Who asks was checked by the server.
fn routes(
    app: App,
) -> impl Service<Request, Response = Response, Error = Infallible, Future: Send> + Clone + Send + 'static
{
    let mut routes = Router::new();
    let cells = app.0.config.sage_cell.as_ref();
    let cells = cells.map(|cells| sage_cell_table(cells.access()));
    for route in table().into_iter().chain(cells.into_iter().flatten()) {
        if placement::is_of_worker(route.path()) {
            routes = route.add_unguarded(routes);
        }
    }
    routes
        .fallback(async || ApiError::not_found())
        .method_not_allowed_fallback(async || ApiError::new(StatusCode::METHOD_NOT_ALLOWED))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(Relay::introduce))
        .with_state(app)
}
