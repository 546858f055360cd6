//! What users accept before they run anything.

use axum::http::header::{CONTENT_TYPE, COOKIE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};

use super::Cell;
use super::fields::Fields;
use crate::error::ApiError;

/// The field, and the cookie, that say that somebody has.
const ACCEPTED: &str = "accepted_tos";

/// `POST /tos.html`: the terms, or that there are none.
pub(crate) async fn ask(cell: Cell) -> Response {
    match &cell.face.config().terms {
        Some(terms) => page(terms),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

/// `GET /tos.html`: the terms, for people.
pub(crate) async fn show(cell: Cell) -> Result<Response, ApiError> {
    match &cell.face.config().terms {
        Some(terms) => Ok(page(terms)),
        None => Err(ApiError::with(
            StatusCode::NOT_FOUND,
            "There are no terms to accept.",
        )),
    }
}

fn page(terms: &str) -> Response {
    let mut response = Html(terms.to_owned()).into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    response
}

/// Whether whoever asks has accepted what there is to accept.
pub(super) fn check(cell: &Cell, fields: &Fields) -> Result<(), ApiError> {
    let has_terms = cell.face.config().terms.is_some();
    if !has_terms || fields.get(ACCEPTED) == Some("true") || has_cookie(&cell.headers) {
        return Ok(());
    }
    Err(ApiError::with(
        StatusCode::FORBIDDEN,
        "The terms of service are to be accepted first: they stand at /tos.html, and accepted_tos=true accepts them.",
    ))
}

fn has_cookie(headers: &HeaderMap) -> bool {
    let cookies = headers.get_all(COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    pairs.any(|pair| pair == (ACCEPTED, "true"))
}
