//! Sends webhooks that are due. What is due stands in SQL, so that it survives a restart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_store::{Delivery, StoreError};
use url::Url;

use crate::Shared;

/// Deliveries read at a time.
const BATCH: u32 = 100;
/// After so many attempts (about two hours) a webhook is given up.
const MAX_ATTEMPTS: i64 = 16;
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
                Some(now_ms() + 5_000)
            }
        };
        let wait = async {
            match next {
                Some(at) => {
                    let pause = u64::try_from(at - now_ms()).unwrap_or(0);
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
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

/// Sends all that is due. Answers when the next one is.
async fn deliver_due(shared: &Shared) -> Result<Option<i64>, StoreError> {
    let store = &shared.tools.store;
    loop {
        let due = store.due_deliveries(now_ms(), BATCH).await?;
        if due.is_empty() {
            return store.next_delivery_at().await;
        }
        // One webhook hears its events in order; one that does not answer holds up no other.
        let mut by_webhook: BTreeMap<String, Vec<Delivery>> = BTreeMap::new();
        for delivery in due {
            by_webhook
                .entry(delivery.webhook.clone())
                .or_default()
                .push(delivery);
        }
        let sent = by_webhook
            .into_values()
            .map(|deliveries| send_all(shared, deliveries));
        for outcome in futures::future::join_all(sent).await {
            outcome?;
        }
    }
}

async fn send_all(shared: &Shared, deliveries: Vec<Delivery>) -> Result<(), StoreError> {
    let store = &shared.tools.store;
    let mut reason: Option<String> = None;
    for delivery in deliveries {
        if reason.is_none() {
            reason = send(shared, &delivery).await.err();
        }
        let Some(reason) = &reason else {
            store.delivery_done(delivery.id).await?;
            continue;
        };
        if delivery.attempts + 1 >= MAX_ATTEMPTS {
            tracing::warn!(task = delivery.task, "a webhook is given up: {reason}");
            store.delivery_done(delivery.id).await?;
            continue;
        }
        let pause = Duration::from_secs(1)
            * 2_u32.saturating_pow(u32::try_from(delivery.attempts).unwrap_or(30));
        let pause = i64::try_from(pause.min(MAX_PAUSE).as_millis()).unwrap_or(i64::MAX);
        store.delivery_failed(delivery.id, now_ms() + pause).await?;
    }
    Ok(())
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

fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
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
