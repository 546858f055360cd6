//! SockJS, version 0.3.3 of its protocol: a connection over a WebSocket, or over requests where there is none. It ends
//! here; over it, a page talks with all of its kernels.
//!
//! # Layout
//! - `frames`: what stands in a frame. `talk`: messages of a page and of its kernels, whatever carries them.
//! - `websocket`, `xhr`: what carries them. [`Links`]: connections that consist of requests.

mod frames;
mod links;
mod talk;
pub(crate) mod websocket;
pub(crate) mod xhr;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::Cell;
use crate::error::ApiError;

pub(crate) use links::Links;

/// How often a page hears that the connection lives.
const HEARTBEAT: Duration = Duration::from_secs(25);
/// How long a page may take nothing of what waits for it.
const STUCK: Duration = Duration::from_secs(60);
/// Connections at a time, of all and of one client.
const MAX_CONNECTIONS: usize = 5_000;
const MAX_CONNECTIONS_OF_CLIENT: usize = 500;
/// Nothing of this is kept on the way.
const NO_STORE: &str = "no-store, no-cache, no-transform, must-revalidate, max-age=0";

/// `GET /sockjs/`: what this is.
pub(crate) async fn welcome(_: Cell) -> Response {
    let described = [(CONTENT_TYPE, "text/plain; charset=UTF-8")];
    (described, "Welcome to SockJS!\n").into_response()
}

/// `GET /sockjs/info`: what there is.
pub(crate) async fn info(_: Cell) -> Response {
    // The first bits of a random UUID are random.
    let entropy = (uuid::Uuid::new_v4().as_u128() >> 96) as u32;
    let body = json!({
        "websocket": true,
        // The requests of one connection must come to one server.
        "cookie_needed": true,
        "origins": ["*:*"],
        "entropy": entropy,
    });
    ([(CACHE_CONTROL, NO_STORE)], Json(body)).into_response()
}

/// What stands in the path of a connection: neither is empty or has a dot.
fn check_place(server: &str, session: &str) -> Result<(), ApiError> {
    let is_plain = |text: &str| !text.is_empty() && text.len() <= 100 && !text.contains('.');
    match is_plain(server) && is_plain(session) {
        true => Ok(()),
        false => Err(ApiError::not_found()),
    }
}

/// Who has how many connections.
#[derive(Debug, Clone, Default)]
struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_client: HashMap<String, usize>,
}

/// A connection. It ends when this is dropped.
#[derive(Debug)]
struct Place {
    places: Places,
    client: String,
}

impl Places {
    /// A place for another connection, if there is one.
    fn take(&self, client: &str) -> Result<Place, ApiError> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.by_client.get(client).copied().unwrap_or_default();
        if taken.all >= MAX_CONNECTIONS || own >= MAX_CONNECTIONS_OF_CLIENT {
            return Err(ApiError::busy(
                "There are too many connections; try again in a moment.",
            ));
        }
        taken.all += 1;
        taken.by_client.insert(client.to_owned(), own + 1);
        Ok(Place {
            places: self.clone(),
            client: client.to_owned(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(own) = taken.by_client.get_mut(&self.client) {
            *own -= 1;
            if *own == 0 {
                taken.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_limited_number_of_places_and_gives_them_back() {
        let places = Places::default();
        let own: Vec<_> = (0..MAX_CONNECTIONS_OF_CLIENT)
            .map(|_| places.take("a").unwrap())
            .collect();
        assert!(places.take("a").is_err());
        assert!(places.take("b").is_ok());
        drop(own);
        assert!(places.take("a").is_ok());
        let taken = places.0.lock().unwrap();
        assert!(taken.all == 0 && taken.by_client.is_empty());
    }
}
