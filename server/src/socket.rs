//! WebSockets to kernels: how they begin, and how they end.

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocketUpgrade, close_code};
use axum::http::{HeaderMap, StatusCode};

use crate::base_url::BaseUrl;
use crate::cors::{Origins, may_run_code};
use crate::error::ApiError;

/// Bytes of the reason in the last frame.
const MAX_REASON: usize = 120;

/// Why a connection ends: the code and the reason of the frame that says so. None: the client has gone.
pub(crate) type Farewell = Option<(u16, String)>;

/// A WebSocket with messages of up to so many bytes, or what is said to who wants none.
pub(crate) fn wanted(
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    most: usize,
) -> Result<WebSocketUpgrade, ApiError> {
    let upgrade = upgrade.map_err(|rejection| {
        ApiError::with(
            StatusCode::BAD_REQUEST,
            format!("Expected a WebSocket: {rejection}"),
        )
    })?;
    Ok(upgrade.max_message_size(most).max_frame_size(most))
}

/// Refuses pages of other origins, over whose WebSocket code would run.
pub(crate) fn check_origin(
    origins: &Origins,
    headers: &HeaderMap,
    base: &BaseUrl,
) -> Result<(), ApiError> {
    match may_run_code(origins, headers, base) {
        true => Ok(()),
        false => Err(ApiError::with(
            StatusCode::FORBIDDEN,
            "Pages of other origins may open this only if CORS_ORIGINS names them.",
        )),
    }
}

/// Where in the log a client goes on, if it says so.
pub(crate) fn offset(text: Option<&str>) -> Result<Option<u64>, ApiError> {
    let text = text.filter(|text| !text.is_empty());
    let offset = text.map(|text| {
        text.parse().map_err(|_| {
            ApiError::bad_request(format!(
                "offset is {text:?}; expected a number, such as 0 for all that was said"
            ))
        })
    });
    offset.transpose()
}

/// What is said to a client that holds up its kernel, or has another connection.
pub(crate) fn cut_off() -> (u16, String) {
    let reason = "read too slowly, or came back by another connection";
    (close_code::POLICY, reason.to_owned())
}

/// The last frame.
pub(crate) fn closing((code, mut reason): (u16, String)) -> Message {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    let reason = reason.into();
    Message::Close(Some(CloseFrame { code, reason }))
}
