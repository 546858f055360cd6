//! What is counted of requests: by the path of their route as the table has it, never by what was asked for.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Counter, Gauge, Histogram, Unit};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::app::App;

/// The route of requests that none answers, or that were refused before one was found.
const NO_ROUTE: &str = "none";

/// Which route made an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RouteName(pub(crate) &'static str);

/// What is counted of requests.
pub(crate) struct HttpMeters {
    answers: RwLock<HashMap<(&'static str, &'static str, u16), Counter>>,
    durations: RwLock<HashMap<&'static str, Histogram>>,
    in_progress: Gauge,
}

impl HttpMeters {
    pub(crate) fn new() -> Self {
        describe_counter!(
            "runner_http_requests_total",
            "Requests by route, method and status of the answer."
        );
        describe_histogram!(
            "runner_http_request_seconds",
            Unit::Seconds,
            "Time until the answer to a request began, by route."
        );
        describe_gauge!(
            "runner_http_requests_in_progress",
            "Requests whose answer has not begun."
        );
        Self {
            answers: RwLock::default(),
            durations: RwLock::default(),
            in_progress: gauge!("runner_http_requests_in_progress"),
        }
    }

    fn count(&self, route: &'static str, method: &'static str, status: u16) {
        let key = (route, method, status);
        let answers = self.answers.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(counter) = answers.get(&key) {
            return counter.increment(1);
        }
        drop(answers);
        let mut answers = self.answers.write().unwrap_or_else(PoisonError::into_inner);
        let counter = answers.entry(key).or_insert_with(|| {
            counter!(
                "runner_http_requests_total",
                "route" => route, "method" => method, "status" => status.to_string()
            )
        });
        counter.increment(1);
    }

    fn took(&self, route: &'static str, seconds: f64) {
        let durations = self
            .durations
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(histogram) = durations.get(route) {
            return histogram.record(seconds);
        }
        drop(durations);
        let mut durations = self
            .durations
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let histogram = durations
            .entry(route)
            .or_insert_with(|| histogram!("runner_http_request_seconds", "route" => route));
        histogram.record(seconds);
    }
}

/// One of a few names, since a client may send any.
fn name_of(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

/// A request in progress, also of a client that hangs up.
struct InProgress(Gauge);

impl InProgress {
    fn new(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts a request, and measures it.
pub(crate) async fn measure(State(app): State<App>, request: Request, next: Next) -> Response {
    let meters = &app.0.meters;
    let method = name_of(request.method());
    let in_progress = InProgress::new(&meters.in_progress);
    let begun = Instant::now();
    let mut response = next.run(request).await;
    drop(in_progress);
    let name = response.extensions_mut().remove::<RouteName>();
    let route = name.map_or(NO_ROUTE, |RouteName(path)| path);
    meters.count(route, method, response.status().as_u16());
    meters.took(route, begun.elapsed().as_secs_f64());
    response
}
