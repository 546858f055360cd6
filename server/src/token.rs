//! The token of the installation: needed for whatever changes it or shows its inside.

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use url::form_urlencoded;

use crate::app::App;

/// Whether a request shows the token of the installation.
pub(crate) fn is_shown(app: &App, request: &Request) -> bool {
    shown(request).is_some_and(|token| is_same(token.as_bytes(), app.0.config.token.as_bytes()))
}

/// The token that a request shows: as `Authorization: Bearer …`, or `?token=…` for links.
fn shown(request: &Request) -> Option<String> {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let bearer = header
        .and_then(|value| value.split_once(' '))
        .and_then(|(scheme, token)| {
            scheme
                .eq_ignore_ascii_case("bearer")
                .then(|| token.trim().to_owned())
        });
    let query = request.uri().query().unwrap_or_default();
    bearer.or_else(|| {
        let mut pairs = form_urlencoded::parse(query.as_bytes());
        pairs
            .find(|(key, _)| key == "token")
            .map(|(_, token)| token.into_owned())
    })
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
