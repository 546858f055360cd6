//! A WebSocket of this server itself to a worker, over a link.

use axum::http::StatusCode;
use runner_queue::LinkStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::Relay;
use super::asker::Asker;

/// A WebSocket over a link.
pub(crate) type Socket = WebSocketStream<LinkStream>;

/// Why there is none.
pub(crate) enum Unopened {
    /// The worker refused it.
    Refused(StatusCode),
    /// The worker did not answer.
    Away(String),
}

impl Relay {
    /// Opens one at a path of a worker. `most`: bytes of a message that it takes.
    pub(crate) async fn socket(
        &self,
        process: &str,
        path: &str,
        asker: &Asker,
        most: usize,
    ) -> Result<Socket, Unopened> {
        let away = |error: &dyn std::fmt::Display| Unopened::Away(error.to_string());
        let request = format!("ws://localhost{path}").into_client_request();
        let mut request = request.map_err(|error| away(&error))?;
        let put = asker.put(request.headers_mut());
        put.map_err(|_| away(&"who asks fits into no header"))?;
        let link = self.links.open(process).await;
        let link = link.map_err(|error| away(&error))?;
        let config = WebSocketConfig::default()
            .max_message_size(Some(most))
            .max_frame_size(Some(most));
        match client_async_with_config(request, link, Some(config)).await {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(answer)) => Err(Unopened::Refused(answer.status())),
            Err(error) => Err(away(&error)),
        }
    }
}
