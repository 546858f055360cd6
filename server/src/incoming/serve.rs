//! Connections, with their limits.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::serve::Listener;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tower::{Service, ServiceExt};

use super::seat::Seat;
use super::stream::Taken;
use crate::app::App;
use crate::router::router;

/// Connections for each request that may be in progress: more are idle, or stream something.
const CONNECTIONS: usize = 2;
/// Headers of a request.
const MAX_HEADERS: usize = 100;

/// Bytes that are read at a time where nothing else is said; heads that are larger need more.
const USUAL_BUFFER: usize = 400 * 1024;

/// Answers requests until `shutdown` is done, then lets those in progress end.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    mut listener: TcpListener,
    app: App,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let limits = app.0.config.limits.clone();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.client)
        .max_headers(MAX_HEADERS)
        .max_header_size(limits.head);
    if limits.head > USUAL_BUFFER {
        http.max_buf_size(limits.head);
    }
    let room = Arc::new(Semaphore::new(limits.requests.saturating_mul(CONNECTIONS)));
    let service = router(app);
    // Each connection holds a receiver: it hears of the end, and is waited for until it has dropped it.
    let (end, ended) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        // Who finds no room waits in the queue of the kernel.
        let accepted = async {
            let permit = Arc::clone(&room).acquire_owned().await;
            (Listener::accept(&mut listener).await, permit)
        };
        let ((stream, peer), permit) = tokio::select! {
            accepted = accepted => accepted,
            () = &mut shutdown => break,
        };
        // Answers are written as a whole; waiting for more would only delay them.
        let _ = stream.set_nodelay(true);
        let connection = Connection {
            stream: Taken::new(stream, limits.client),
            peer,
            // The semaphore is never closed.
            seat: Seat::new(permit.ok(), ended.clone()),
        };
        tokio::spawn(connection.serve(http.clone(), service.clone(), ended.clone()));
    }
    drop(listener);
    drop(ended);
    let _ = end.send(true);
    end.closed().await;
    Ok(())
}

/// One connection.
struct Connection {
    stream: Taken<TcpStream>,
    peer: SocketAddr,
    seat: Seat,
}

impl Connection {
    async fn serve<S>(self, http: http1::Builder, service: S, mut ended: watch::Receiver<bool>)
    where
        S: Service<
                Request,
                Response = axum::response::Response,
                Error = std::convert::Infallible,
                Future: Send,
            > + Clone
            + Send
            + 'static,
    {
        let Self { stream, peer, seat } = self;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            request.extensions_mut().insert(seat.clone());
            service.clone().oneshot(request)
        });
        let connection = http.serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection.with_upgrades());
        tokio::select! {
            // Clients hang up, and are cut; it is nothing to tell.
            _ = connection.as_mut() => return,
            _ = ended.wait_for(|ended| *ended) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    }
}
