//! `GET /modules/`: what was found in the plugin folders, and why something was not loaded.

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use crate::app::App;

pub(crate) async fn list(State(app): State<App>) -> Json<Value> {
    let table = app.0.modules.table();
    let modules: Vec<Value> = table
        .modules
        .iter()
        .map(|module| {
            let mut shown = serde_json::to_value(module.status()).unwrap_or_default();
            shown["hosts"] = json!(module.idle_hosts());
            shown["processes"] = json!(module.hosts());
            shown
        })
        .collect();
    Json(json!({ "modules": modules, "sandbox": app.0.modules.sandbox().to_string() }))
}
