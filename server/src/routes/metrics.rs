//! `GET /metrics`: numbers for Prometheus.

use axum::extract::State;
use axum::response::Response;

use crate::app::App;

pub(crate) async fn show(State(app): State<App>) -> Response {
    app.0.sight.metrics().await
}
