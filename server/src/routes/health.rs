//! `GET /health/live` and `/health/ready`: whether the process answers, and whether it can do its work.

use axum::extract::State;
use axum::response::Response;

use crate::app::App;
use crate::sight;

pub(crate) async fn live() -> Response {
    sight::live()
}

pub(crate) async fn ready(State(app): State<App>) -> Response {
    app.0.sight.ready().await
}
