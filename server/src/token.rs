//! The token that a request shows; and that of the installation, which its owner has.

use std::borrow::Cow;

use axum::extract::Request;
use axum::http::header::AUTHORIZATION;
use url::form_urlencoded;

use crate::app::App;

/// How a token is announced; the second is what notebooks say.
const SCHEMES: [&str; 2] = ["bearer", "token"];

/// The token that a request shows: as `Authorization: Bearer …`, or `?token=…` for links, frames and streams
/// of events, which cannot have headers.
pub(crate) fn shown(request: &Request) -> Option<Cow<'_, str>> {
    let header = request
        .headers()
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok());
    let bearer = header
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| {
            SCHEMES
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
        })
        .map(|(_, token)| Cow::Borrowed(token.trim()));
    bearer.or_else(|| {
        let mut pairs = form_urlencoded::parse(request.uri().query()?.as_bytes());
        pairs
            .find(|(key, _)| key == "token")
            .map(|(_, token)| token)
    })
}

/// Whether it is the token of the installation: what must be shown for whatever changes it or shows its
/// inside, where no other tokens are checked; and always of an administrator.
pub(crate) fn is_of_installation(app: &App, token: &str) -> bool {
    is_same(token.as_bytes(), app.0.config.token.as_bytes())
}

/// Compares in a time that tells nothing of where they differ.
fn is_same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}
