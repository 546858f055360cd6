use runner_core::task::TaskEvent::{self, Details, Status, Steps};
use runner_store::{Delivery, MAX_SUBSCRIPTIONS, StoreError};

use crate::{Fixture, run_write, succeeded};

/// All deliveries, as a sender that always succeeds sees them.
async fn drain(fixture: &Fixture) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let due = fixture.store.due_deliveries(i64::MAX, 10).await.unwrap();
        if due.is_empty() {
            assert_eq!(fixture.store.next_delivery_at().await.unwrap(), None);
            return all;
        }
        for delivery in due {
            fixture.store.delivery_done(delivery.id).await.unwrap();
            all.push(delivery);
        }
    }
}

fn told<'a>(deliveries: &'a [Delivery], webhook: &str) -> Vec<TaskEvent> {
    let of = |delivery: &&'a Delivery| delivery.webhook == webhook;
    deliveries.iter().filter(of).map(|d| d.event).collect()
}

#[tokio::test]
async fn subscribers_are_told_what_they_asked_for_in_order() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    for (webhook, event) in [
        ("http://all/", None),
        ("http://all/", None),
        ("http://one/", Some(Details)),
        ("http://none/", Some(Steps)),
        ("http://gone/", Some(Status)),
        ("http://gone/", None),
        ("http://half/", Some(Status)),
        ("http://half/", Some(Details)),
    ] {
        store.subscribe(task.id, webhook, event).await.unwrap();
    }
    let gone = store.unsubscribe(task.id, "http://gone/", None).await;
    assert_eq!(gone.unwrap(), 2);
    let half = store.unsubscribe(task.id, "http://half/", Some(Details));
    assert_eq!(half.await.unwrap(), 1);
    let nobody = store.unsubscribe(task.id, "http://nobody/", None).await;
    assert_eq!(nobody.unwrap(), 0);

    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());
    let deliveries = drain(&fixture).await;
    assert_eq!(told(&deliveries, "http://all/"), [Status, Details]);
    assert_eq!(told(&deliveries, "http://one/"), [Details]);
    assert_eq!(told(&deliveries, "http://half/"), [Status]);
    assert_eq!(deliveries.len(), 4);
    assert!(deliveries.iter().all(|d| d.base_url == "http://host:5005"));
}

#[tokio::test]
async fn a_delivery_that_fails_holds_back_those_after_it_for_its_target_only() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    for webhook in ["http://a/", "http://b/"] {
        store.subscribe(task.id, webhook, None).await.unwrap();
    }
    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());
    let now = store.next_delivery_at().await.unwrap().unwrap();
    assert_eq!(store.due_deliveries(now - 1, 10).await.unwrap(), []);
    let due = store.due_deliveries(now, 10).await.unwrap();
    assert_eq!(due.len(), 2);
    assert_eq!(store.due_deliveries(now, 1).await.unwrap(), due[..1]);

    store.delivery_failed(due[0].id, now + 5000).await.unwrap();
    store.delivery_done(due[1].id).await.unwrap();
    let rest = store.due_deliveries(now, 10).await.unwrap();
    assert_eq!(told(&rest, "http://b/"), [Details]);
    assert_eq!(rest.len(), 1);
    store.delivery_done(rest[0].id).await.unwrap();
    assert_eq!(store.next_delivery_at().await.unwrap(), Some(now + 5000));
    let again = store.due_deliveries(now + 5000, 10).await.unwrap();
    assert_eq!((again[0].id, again[0].attempts), (due[0].id, 1));
    assert_eq!(told(&drain(&fixture).await, "http://a/"), [Status, Details]);
}

#[tokio::test]
async fn nobody_subscribes_to_a_task_that_is_not_there() {
    let fixture = Fixture::new().await;
    let error = fixture.store.subscribe(7, "http://h/", None).await;
    assert!(matches!(error, Err(StoreError::UnknownTask(7))));
    fixture.task().await;
}

#[tokio::test]
async fn a_task_has_only_so_many_subscriptions() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let (task, other) = (fixture.task().await.id, fixture.task().await.id);
    let webhook = |number: u32| format!("http://h/{number}");
    for number in 0..MAX_SUBSCRIPTIONS {
        assert!(store.subscribe(task, &webhook(number), None).await.unwrap());
    }
    let next = webhook(MAX_SUBSCRIPTIONS);
    assert!(!store.subscribe(task, &next, None).await.unwrap());
    assert!(
        !store
            .subscribe(task, &webhook(0), Some(Status))
            .await
            .unwrap()
    );
    assert!(
        store.subscribe(task, &webhook(0), None).await.unwrap(),
        "it is one of them"
    );
    assert!(store.subscribe(other, &next, None).await.unwrap());
    store.unsubscribe(task, &webhook(0), None).await.unwrap();
    assert!(store.subscribe(task, &next, None).await.unwrap());
}
