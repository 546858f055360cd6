//! `/kernel`: kernels made and ended.

use std::time::Duration;

use axum::Json;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use uuid::Uuid;

use super::fields::Fields;
use super::kernels::{self, Made, Wanted};
use super::{Cell, id_of, terms};
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::routes::Segment;

/// Where clients find the id of a kernel, beside the body.
pub(crate) const KERNEL_ID: HeaderName = HeaderName::from_static("jupyter-kernel-id");
/// Bytes of the name that a page gives itself.
const MAX_PAGE: usize = 200;

/// `POST /kernel`: begins a kernel; with `method`, what that method does.
pub(crate) async fn make(
    cell: Cell,
    base: BaseUrl,
    request: Request,
) -> Result<Response, ApiError> {
    let fields = Fields::read(request).await?;
    match fields.get("method") {
        None | Some("" | "POST") => {}
        Some("OPTIONS") => return Ok(StatusCode::OK.into_response()),
        Some(_) => return Err(ApiError::method_not_allowed("POST, OPTIONS")),
    }
    terms::check(&cell, &fields)?;
    let page = fields.some("CellSessionID").map(str::to_owned);
    if page.as_ref().is_some_and(|page| page.len() > MAX_PAGE) {
        return Err(ApiError::bad_request(format!(
            "CellSessionID is longer than {MAX_PAGE} bytes."
        )));
    }
    let wanted = Wanted {
        client: cell.client,
        elsewhere: cell.elsewhere,
        page,
        spec: fields.some("kernel").map(str::to_owned),
        idle: idle(fields.get("timeout"))?,
    };
    Ok(match kernels::make(&cell.face, wanted).await {
        Made::Kernel(id) => made(&base, id),
        Made::Refused(answer) => answer,
    })
}

fn made(base: &BaseUrl, id: Uuid) -> Response {
    let url = base.url("/").replacen("http", "ws", 1);
    let mut response = Json(json!({"ws_url": url, "id": id.to_string()})).into_response();
    if let Ok(id) = HeaderValue::try_from(id.to_string()) {
        response.headers_mut().insert(KERNEL_ID, id);
    }
    response
}

/// How long a kernel may be idle: seconds, none of them if nothing is said, or `inf` for as long as any may.
fn idle(timeout: Option<&str>) -> Result<Option<Duration>, ApiError> {
    let text = match timeout {
        None | Some("") => return Ok(Some(Duration::ZERO)),
        Some("inf" | "Infinity") => return Ok(None),
        Some(text) => text,
    };
    let seconds = text.parse::<f64>().ok().filter(|number| *number >= 0.0);
    match seconds {
        // So long that it has no end.
        Some(seconds) => Ok(Duration::try_from_secs_f64(seconds).ok()),
        None => Err(ApiError::bad_request(
            "timeout is no number of seconds; expected such as 0, 60 or inf.",
        )),
    }
}

/// `DELETE /kernel/<id>`: ends a kernel. One that is unknown has ended.
pub(crate) async fn remove(cell: Cell, Segment(id): Segment) -> Result<StatusCode, ApiError> {
    if let Ok(id) = id_of(&id) {
        kernels::remove(&cell.face, id).await?;
    }
    Ok(StatusCode::OK)
}

/// `POST /kernel/<id>`: with `method=DELETE`, the same for clients that can only POST.
pub(crate) async fn change(
    cell: Cell,
    Segment(id): Segment,
    request: Request,
) -> Result<StatusCode, ApiError> {
    let fields = Fields::read(request).await?;
    match fields.get("method") {
        Some("DELETE") => remove(cell, Segment(id)).await,
        Some("OPTIONS") => Ok(StatusCode::OK),
        _ => Err(ApiError::method_not_allowed("DELETE, OPTIONS")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_seconds_or_endless() {
        for (text, expected) in [
            (None, Some(Duration::ZERO)),
            (Some("0"), Some(Duration::ZERO)),
            (Some("1.5"), Some(Duration::from_millis(1500))),
            (Some("inf"), None),
            (Some("1e300"), None),
        ] {
            assert_eq!(idle(text).unwrap(), expected, "{text:?}");
        }
        for wrong in ["-1", "NaN", "soon", "-inf"] {
            assert!(idle(Some(wrong)).is_err(), "{wrong}");
        }
    }
}
