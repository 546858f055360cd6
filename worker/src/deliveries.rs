//! Sends webhooks that are due. What is due stands in SQL, so that it survives a restart.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use runner_store::{Delivery, StoreError};
use url::Url;

use crate::Shared;

/// Webhooks called at a time.
const AT_ONCE: usize = 64;
/// Deliveries read at a time.
const BATCH: u32 = 100;
/// After so many attempts (about two hours) a webhook is given up.
const MAX_ATTEMPTS: i64 = 16;
/// After SQL could not be read.
const PAUSE: Duration = Duration::from_secs(5);
/// The longest pause between two attempts.
const MAX_PAUSE: Duration = Duration::from_secs(15 * 60);

/// Sends until the worker stops. Sleeps while nothing is due.
pub(crate) async fn deliver(shared: Arc<Shared>) {
    loop {
        let next = match deliver_due(&shared).await {
            Ok(next) => next,
            Err(StoreError::Closed) => return,
            Err(error) => {
                tracing::error!("webhooks cannot be read: {error}");
                Some(PAUSE)
            }
        };
        let wait = async {
            match next {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = wait => {}
            () = shared.tools.queue.deliveries() => {}
            () = shared.abort.cancelled() => return,
        }
    }
}

/// Sends all that is due. Answers how long it is until the next one is.
async fn deliver_due(shared: &Shared) -> Result<Option<Duration>, StoreError> {
    let store = &shared.tools.store;
    loop {
        let due = store
            .due_deliveries(BATCH, shared.config.upkeep.lease)
            .await?;
        if due.is_empty() {
            return store.next_delivery_at().await;
        }
        // What is due holds one event of a webhook and task, so these are in nobody's way.
        let sending = futures::stream::iter(due).map(|delivery| deliver_one(shared, delivery));
        let mut sent = sending.buffer_unordered(AT_ONCE);
        while let Some(outcome) = sent.next().await {
            outcome?;
        }
    }
}

async fn deliver_one(shared: &Shared, delivery: Delivery) -> Result<(), StoreError> {
    let store = &shared.tools.store;
    let meters = &shared.meters.webhooks;
    let Err(reason) = send(shared, &delivery).await else {
        meters.delivered.increment(1);
        return store.delivery_done(delivery.id).await.map(drop);
    };
    if delivery.attempts + 1 >= MAX_ATTEMPTS {
        meters.given_up.increment(1);
        tracing::warn!(task = delivery.task, "a webhook is given up: {reason}");
        let given_up = store.delivery_given_up(delivery.id, &reason).await;
        return given_up.map(drop);
    }
    meters.failed.increment(1);
    let doubled = 2_u32.saturating_pow(u32::try_from(delivery.attempts).unwrap_or(30));
    let pause = Duration::from_secs(1)
        .saturating_mul(doubled)
        .min(MAX_PAUSE);
    let failed = store.delivery_failed(delivery.id, pause, &reason).await;
    failed.map(drop)
}

/// An answer of any status counts as delivered.
async fn send(shared: &Shared, delivery: &Delivery) -> Result<(), String> {
    let url = address(delivery).ok_or("the webhook's URL is not usable")?;
    let timeout = shared.config.webhook_timeout;
    shared
        .tools
        .fetcher
        .post(&url, timeout)
        .await
        .map(drop)
        .map_err(|error| error.to_string())
}

/// The webhook's URL with `source` and `event` added to its query.
fn address(delivery: &Delivery) -> Option<String> {
    let mut url = Url::parse(&delivery.webhook).ok()?;
    let source = format!("{}/tasks/{}/", delivery.base_url, delivery.task);
    url.query_pairs_mut()
        .append_pair("source", &source)
        .append_pair("event", delivery.event.as_str());
    Some(url.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::task::TaskEvent;

    #[test]
    fn the_query_of_a_webhook_is_kept() {
        let delivery = Delivery {
            id: 1,
            task: 9,
            webhook: "http://127.0.0.1:5599/status?x=1".to_owned(),
            event: TaskEvent::Steps,
            attempts: 0,
            base_url: "http://127.0.0.1:5005".to_owned(),
        };
        assert_eq!(
            address(&delivery).unwrap(),
            "http://127.0.0.1:5599/status?x=1&source=http%3A%2F%2F127.0.0.1%3A5005%2Ftasks%2F9%2F&event=steps"
        );
    }
}
