use std::time::Duration;

use runner_core::task::TaskEvent::{self, Details, Status, Steps};
use runner_store::{Delivery, MAX_SUBSCRIPTIONS, Recorded, StoreError};

use crate::databases::On;
use crate::{Fixture, run_write, succeeded};

on_each_database!(
    subscribers_are_told_what_they_asked_for_in_order,
    a_delivery_that_fails_holds_back_those_after_it_for_its_target_only,
    one_that_was_given_up_is_shown_and_lets_the_others_go_on,
    what_one_process_claimed_no_other_gets_until_the_lease_ends,
    nobody_subscribes_to_a_task_that_is_not_there,
    a_task_has_only_so_many_subscriptions,
    who_ends_a_run_hears_whether_somebody_is_to_be_told,
);

/// Longer than any test.
pub(crate) const LEASE: Duration = Duration::from_secs(600);

/// All deliveries, as a sender that always succeeds sees them.
async fn drain(fixture: &Fixture) -> Vec<Delivery> {
    let mut all = Vec::new();
    loop {
        let due = fixture.store.due_deliveries(10, LEASE).await.unwrap();
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

async fn subscribers_are_told_what_they_asked_for_in_order(on: On) {
    let fixture = Fixture::new(on).await;
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

async fn a_delivery_that_fails_holds_back_those_after_it_for_its_target_only(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    for webhook in ["http://a/", "http://b/"] {
        store.subscribe(task.id, webhook, None).await.unwrap();
    }
    assert_eq!(store.next_delivery_at().await.unwrap(), None);
    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());
    assert_eq!(
        store.next_delivery_at().await.unwrap(),
        Some(Duration::ZERO)
    );
    let mut due = store.due_deliveries(1, LEASE).await.unwrap();
    due.extend(store.due_deliveries(10, LEASE).await.unwrap());
    assert_eq!(due.len(), 2);
    assert_eq!(store.due_deliveries(10, LEASE).await.unwrap(), []);
    let pause = Duration::from_secs(5);
    assert!(
        store
            .delivery_failed(due[0].id, pause, "refused\0")
            .await
            .unwrap()
    );
    assert!(store.delivery_done(due[1].id).await.unwrap());
    let rest = store.due_deliveries(10, LEASE).await.unwrap();
    assert_eq!(told(&rest, "http://b/"), [Details]);
    assert_eq!(rest.len(), 1);
    assert!(store.delivery_done(rest[0].id).await.unwrap());
    let wait = store.next_delivery_at().await.unwrap().unwrap();
    assert!((pause / 2..=pause).contains(&wait), "{wait:?}");
    let shown = store.deliveries_of(task.id).await.unwrap();
    assert_eq!(shown.len(), 2);
    assert_eq!((shown[0].id, shown[0].attempts), (due[0].id, 1));
    assert_eq!(shown[0].last_error.as_deref(), Some("refused\u{fffd}"));
    assert!(shown[0].due_at > shown[1].due_at && shown[1].due_at.is_some());
    assert_eq!((shown[1].event, shown[1].attempts), (Details, 0));
}

async fn one_that_was_given_up_is_shown_and_lets_the_others_go_on(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    store.subscribe(task.id, "http://a/", None).await.unwrap();
    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());
    let first = store.due_deliveries(10, LEASE).await.unwrap().remove(0);
    assert!(store.delivery_given_up(first.id, "gone").await.unwrap());
    assert!(!store.delivery_given_up(first.id, "gone").await.unwrap());
    assert_eq!(told(&drain(&fixture).await, "http://a/"), [Details]);
    let shown = store.deliveries_of(task.id).await.unwrap();
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].last_error.as_deref(), Some("gone"));
    assert_eq!((shown[0].due_at, shown[0].attempts), (None, 1));
    assert!(shown[0].gave_up_at.is_some());
    assert!(store.delete_task(task.id).await.unwrap());
    assert_eq!(store.deliveries_of(task.id).await.unwrap(), []);
}

async fn what_one_process_claimed_no_other_gets_until_the_lease_ends(on: On) {
    let fixture = Fixture::new(on).await;
    let other = fixture.other("worker-2").await;
    let mut task = fixture.task().await;
    for number in 0..20 {
        let webhook = format!("http://h/{}{number}", "x".repeat(3_000));
        let event = Some(Status);
        fixture
            .store
            .subscribe(task.id, &webhook, event)
            .await
            .unwrap();
    }
    let write = run_write(&mut task, succeeded());
    assert!(fixture.store.write_run(write).await.unwrap());
    let lease = Duration::from_millis(1_500);
    let (a, b, c) = tokio::join!(
        fixture.store.due_deliveries(15, lease),
        other.due_deliveries(15, lease),
        fixture.store.due_deliveries(15, lease),
    );
    let (a, b, c) = (a.unwrap(), b.unwrap(), c.unwrap());
    let mut ids: Vec<_> = a.iter().chain(&b).chain(&c).map(|d| d.id).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "each was claimed once");
    assert!(!b.is_empty() || a.len() + c.len() == 20);
    let own = a.first().or(c.first()).unwrap();
    assert!(
        !other.delivery_done(own.id).await.unwrap(),
        "another holds it"
    );
    let wait = other.next_delivery_at().await.unwrap().unwrap();
    assert!(wait <= lease, "{wait:?}");
    let all = tokio::time::timeout(Duration::from_secs(20), async {
        let mut all = Vec::new();
        while all.len() < 20 {
            tokio::time::sleep(other.next_delivery_at().await.unwrap().unwrap_or_default()).await;
            all.extend(other.due_deliveries(20, LEASE).await.unwrap());
        }
        all
    });
    assert_eq!(all.await.unwrap().len(), 20);
    assert!(
        !fixture.store.delivery_done(own.id).await.unwrap(),
        "it is overtaken"
    );
    assert!(other.delivery_done(own.id).await.unwrap());
}

async fn nobody_subscribes_to_a_task_that_is_not_there(on: On) {
    let fixture = Fixture::new(on).await;
    let error = fixture.store.subscribe(7, "http://h/", None).await;
    assert!(matches!(error, Err(StoreError::UnknownTask(7))));
    fixture.task().await;
}

async fn a_task_has_only_so_many_subscriptions(on: On) {
    let fixture = Fixture::new(on).await;
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

async fn who_ends_a_run_hears_whether_somebody_is_to_be_told(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    for is_subscribed in [false, true] {
        for has_output in [false, true] {
            let mut task = fixture.task().await;
            if is_subscribed {
                store.subscribe(task.id, "http://all/", None).await.unwrap();
            }
            let mut write = run_write(&mut task, succeeded());
            if has_output {
                write.log = "with a log".to_owned();
                write.outputs = vec![fixture.output("out.txt")];
            }
            let recorded = store.record_run(write).await.unwrap();
            assert_eq!(recorded, Recorded::Yes { is_subscribed });
        }
    }
}
