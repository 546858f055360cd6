//! `GET /debug/…`: pages for people who write plugins and hosts, in development mode only.

use axum::extract::State;
use axum::http::HeaderName;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::response::Html;

use crate::app::App;
use crate::base_url::BaseUrl;
use crate::error::ApiError;
use crate::router;
use crate::sage_cell::SageCell;

/// A page, and what it may do: it runs no script but ours, and no page may show it in a frame.
type Page = ([(HeaderName, &'static str); 2], Html<String>);

const HEADERS: [(HeaderName, &str); 2] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
         frame-src http: https:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
];

/// `GET /debug/`: what there is.
pub(crate) async fn index(State(app): State<App>, base: BaseUrl) -> Result<Page, ApiError> {
    Ok((HEADERS, app.0.pages.debug("index", &base, &[])?))
}

/// `GET /debug/routes`: all routes.
pub(crate) async fn routes(State(app): State<App>, base: BaseUrl) -> Result<Page, ApiError> {
    let rows = rows(app.0.config.sage_cell.as_ref());
    Ok((HEADERS, app.0.pages.debug("routes", &base, &rows)?))
}

/// `GET /debug/frontend-debugger`: a host that loads any micro frontend and exchanges messages with it.
pub(crate) async fn frontend_debugger(
    State(app): State<App>,
    base: BaseUrl,
) -> Result<Page, ApiError> {
    Ok((HEADERS, app.0.pages.debug("frontend_debugger", &base, &[])?))
}

/// Path, methods and what they need, of every route.
fn rows(face: Option<&SageCell>) -> Vec<(&'static str, String, &'static str)> {
    let mut rows: Vec<(&str, String, &str)> = Vec::new();
    let mut table = router::table();
    if let Some(face) = face {
        table.extend(router::sage_cell_table(face.access()));
    }
    table.extend(router::debug_table());
    for route in &table {
        for (path, method, access) in route.documented() {
            let needs = access.as_str();
            match rows.last_mut() {
                Some((last, methods, same)) if last == path && *same == needs => {
                    methods.push_str(", ");
                    methods.push_str(method.as_str());
                }
                _ => rows.push((path, method.to_string(), needs)),
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_every_route_with_what_it_needs() {
        let rows = rows(None);
        for row in [
            ("/tasks/{id}/", "GET", "viewer"),
            ("/tasks/{id}/", "POST, DELETE", "user"),
            ("/modules/", "GET, POST", "admin"),
            ("/files/{id}/", "GET", "public"),
            ("/debug/routes", "GET", "viewer"),
        ] {
            let same = rows
                .iter()
                .filter(|(path, methods, needs)| (*path, methods.as_str(), *needs) == row);
            assert_eq!(same.count(), 1, "{row:?}");
        }
    }
}
