//! The interface of Sage Cell, which exists where it is switched on.
//!
//! # Layout
//! - `kernels`: all that these routes do with kernels. Nothing else here knows where they are. `line`: a connection to one.
//! - `kernel`: kernels made and ended. `channels`: messages over a WebSocket. `sockjs`: over SockJS. `files`: what lies in
//!   the folder of one.
//! - `service`: a single cell. `permalink`: cells by short addresses. `terms`: what is to be accepted.
//! - `page`: our own page. `fields`: what was sent, wherever it stands.

pub(crate) mod channels;
pub(crate) mod fields;
pub(crate) mod files;
pub(crate) mod kernel;
mod kernels;
mod line;
pub(crate) mod page;
pub(crate) mod permalink;
pub(crate) mod service;
pub(crate) mod sockjs;
pub(crate) mod terms;

use std::net::IpAddr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use uuid::Uuid;

use crate::app::App;
use crate::auth::Caller;
use crate::base_url::BaseUrl;
use crate::cors::may_have_socket;
use crate::error::ApiError;
use crate::incoming::client::ClientAddress;
use crate::relay::asker::{Elsewhere, Held, OfPage};
use crate::sage_cell::SageCell;

/// The face, for a request that may use it.
pub(crate) struct Cell {
    /// The face.
    pub(crate) face: SageCell,
    /// With whom it is counted: the subject of a token, else an address.
    pub(crate) client: String,
    /// How many kernels whoever asks has at other workers.
    elsewhere: Elsewhere,
    /// Where a server opens a connection for a page.
    held: Option<Held>,
    /// What was said beside the body.
    headers: HeaderMap,
}

impl FromRequestParts<App> for Cell {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let face = app.0.config.sage_cell.clone();
        let face = face.ok_or_else(ApiError::not_found)?;
        let base = BaseUrl::from_request_parts(parts, app).await?;
        check_origin(app, &parts.headers, &base)?;
        let caller = parts.extensions.get::<Caller>();
        let subject = caller.and_then(|caller| caller.subject.as_deref());
        let address = parts.extensions.get::<ClientAddress>();
        let page = parts.extensions.get::<OfPage>();
        let client = match (page, subject, address) {
            (Some(page), ..) => page.client.clone(),
            (None, Some(subject), _) => format!("user {subject}"),
            (None, None, Some(address)) => network(address.0),
            (None, None, None) => String::new(),
        };
        Ok(Self {
            face,
            client,
            elsewhere: parts.extensions.get().copied().unwrap_or_default(),
            held: parts.extensions.get().cloned(),
            headers: parts.headers.clone(),
        })
    }
}

/// Refuses pages that may not use this: browsers ask nobody before they send a form or open a WebSocket.
pub(crate) fn check_origin(app: &App, headers: &HeaderMap, base: &BaseUrl) -> Result<(), ApiError> {
    match may_have_socket(&app.0.config.origins, headers, base) {
        true => Ok(()),
        false => Err(ApiError::with(
            StatusCode::FORBIDDEN,
            "Pages of this origin may not use this: CORS_ORIGINS does not name it.",
        )),
    }
}

/// An address, or the network of one: who has one of version 6 has as many as there are in it.
fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

/// A kernel's id. What is no id names nothing.
fn id_of(text: &str) -> Result<Uuid, ApiError> {
    Uuid::try_parse(text)
        .map_err(|_| ApiError::with(StatusCode::NOT_FOUND, "There is no such kernel."))
}
