//! The limit of reads: a handler that only sends what it has.

use std::net::SocketAddr;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;

/// Serves a body as JSON. Ends with the returned handle.
pub(crate) async fn serve(
    body: Vec<u8>,
) -> std::io::Result<(SocketAddr, tokio::task::AbortHandle)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let handler = move || {
        let body = body.clone();
        async move { ([(CONTENT_TYPE, "application/json")], body).into_response() }
    };
    let server = axum::serve(listener, Router::new().route("/", get(handler)));
    let task = tokio::spawn(async move {
        // It is measured only while it works.
        let _ = server.await;
    });
    Ok((address, task.abort_handle()))
}
