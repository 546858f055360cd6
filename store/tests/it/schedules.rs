//! Schedules: what is kept of them, and that they are fired once.

use runner_core::schedule::{Kind, Missed, NewSchedule, Overlap, Rule, Schedule};
use runner_core::task::{Change, Dispatch, Priority, TaskState};
use runner_store::{Changed, Declared, Fire, Fired, Store};
use serde_json::{Map, json};

use crate::databases::On;
use crate::{Fixture, new_task, run_write, succeeded};

on_each_database!(
    a_schedule_is_read_as_it_was_made_and_changed,
    names_are_unique_and_others_are_not_overwritten,
    of_many_processes_one_fires,
    a_task_that_has_not_ended_is_dealt_with_as_was_said,
    firings_that_wait_come_one_after_the_other,
    what_cannot_be_made_is_said_and_does_not_wait,
    schedules_of_modules_follow_what_they_declare,
    a_firing_is_a_task_like_any_other_after_a_crash,
);

fn what(name: &str) -> NewSchedule {
    let mut parameters = Map::new();
    parameters.insert("inputStr".to_owned(), json!("ä\"x"));
    NewSchedule {
        name: name.to_owned(),
        plugin: "hello-world@v0-2-1".to_owned(),
        parameters,
        rule: Rule {
            kind: Kind::Cron,
            expression: "0 3 * * *".to_owned(),
            time_zone: "Europe/Berlin".to_owned(),
            jitter_ms: 5,
            anchor: 7,
        },
        overlap: Overlap::Skip,
        missed: Missed::Once,
        enabled: true,
        dispatch: Dispatch {
            priority: Priority::High,
            retries: Some(2),
            timeout_ms: Some(1_500),
            ..Dispatch::default()
        },
        labels: vec!["mine".to_owned()],
        base_url: "http://host:5005".to_owned(),
    }
}

impl Fixture {
    /// A schedule that has been due for a second.
    async fn due(&self, overlap: Overlap) -> Schedule {
        let now = self.store.database_now().await.unwrap();
        let what = NewSchedule {
            overlap,
            ..what(overlap.as_str())
        };
        let due = Some(now - 1_000);
        let made = self.store.make_schedule(what, due, due).await.unwrap();
        let Changed::Done(id) = made else {
            panic!("{made:?}");
        };
        self.schedule(id).await
    }

    async fn schedule(&self, id: i64) -> Schedule {
        self.store.schedule(id).await.unwrap().unwrap()
    }

    /// Fires it as it is now.
    async fn fire(&self, id: i64, firings: u32) -> Fired {
        let fire = fire(&self.schedule(id).await, firings);
        self.store.fire_schedule(fire).await.unwrap()
    }

    async fn end(&self, task: i64) {
        let mut task = self.read(task).await;
        let write = run_write(&mut task, succeeded());
        assert!(self.store.write_run(write).await.unwrap());
    }
}

/// A firing that moves the schedule an hour on.
fn fire(schedule: &Schedule, firings: u32) -> Fire {
    let next = schedule.due_at.map(|due| due + 3_600_000);
    Fire {
        id: schedule.id,
        version: schedule.version,
        firings,
        due_at: next,
        next_at: next,
        task: Ok(new_task()),
        note: None,
        by_hand: false,
    }
}

fn tasks(fired: &Fired) -> Vec<i64> {
    match fired {
        Fired::Done { tasks, .. } => tasks.clone(),
        Fired::Overtaken => panic!("overtaken"),
    }
}

async fn count(store: &Store) -> usize {
    let filter = runner_store::TaskFilter::default();
    store.tasks(&filter, 500).await.unwrap().len()
}

async fn a_schedule_is_read_as_it_was_made_and_changed(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let made = store.make_schedule(what("a"), Some(5), Some(6)).await;
    let Changed::Done(id) = made.unwrap() else {
        panic!("not made");
    };
    let seen = fixture.schedule(id).await;
    assert_eq!(seen.what, what("a"));
    assert_eq!((seen.due_at, seen.next_at), (Some(5), Some(6)));
    assert_eq!((seen.pending, seen.last_at, &seen.owner), (0, None, &None));
    assert_eq!(store.due_schedules().await.unwrap().0, vec![seen.clone()]);
    assert!(store.next_schedule_in().await.unwrap().unwrap().is_zero());

    let other = NewSchedule {
        enabled: false,
        missed: Missed::Skip,
        labels: Vec::new(),
        ..what("b")
    };
    let changed = store
        .change_schedule(&seen, other.clone(), Some(9), Some(9))
        .await;
    assert_eq!(changed.unwrap(), Changed::Done(id));
    let changed = fixture.schedule(id).await;
    assert_eq!(changed.what, other);
    assert_eq!((changed.due_at, changed.next_at), (None, None));
    assert!(store.due_schedules().await.unwrap().0.is_empty());
    assert_eq!(store.next_schedule_in().await.unwrap(), None);

    // What was read before is not as it is.
    let late = store.change_schedule(&seen, what("c"), None, None).await;
    assert_eq!(late.unwrap(), Changed::Overtaken);
    assert!(store.remove_schedule(id).await.unwrap());
    assert!(!store.remove_schedule(id).await.unwrap());
    assert_eq!(store.schedule(id).await.unwrap(), None);
}

async fn names_are_unique_and_others_are_not_overwritten(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let Changed::Done(_) = store.make_schedule(what("a"), None, None).await.unwrap() else {
        panic!("not made");
    };
    let again = store.make_schedule(what("a"), None, None).await;
    assert_eq!(again.unwrap(), Changed::NameTaken);
    let Changed::Done(id) = store.make_schedule(what("b"), None, None).await.unwrap() else {
        panic!("not made");
    };
    let seen = fixture.schedule(id).await;
    let renamed = store.change_schedule(&seen, what("a"), None, None).await;
    assert_eq!(renamed.unwrap(), Changed::NameTaken);
    assert_eq!(store.schedules().await.unwrap().len(), 2);
    // Another queue has schedules of its own.
    let config = runner_store::StoreConfig {
        queue: "other".to_owned(),
        process: "worker-9".to_owned(),
        ..fixture.config.clone()
    };
    let other = Store::open(&config).await.unwrap();
    assert!(other.schedules().await.unwrap().is_empty());
    assert_eq!(other.schedule(id).await.unwrap(), None);
    assert!(matches!(
        other.make_schedule(what("a"), None, None).await.unwrap(),
        Changed::Done(_)
    ));
}

async fn of_many_processes_one_fires(on: On) {
    let fixture = Fixture::new(on).await;
    let schedule = fixture.due(Overlap::Allow).await;
    let mut stores = vec![fixture.store.clone()];
    for number in 2..=6 {
        stores.push(fixture.other(&format!("worker-{number}")).await);
    }
    for round in 1..=3 {
        let seen = fixture.schedule(schedule.id).await;
        let firing: Vec<_> = stores
            .iter()
            .cycle()
            .take(24)
            .map(|store| {
                let (store, fire) = (store.clone(), fire(&seen, 1));
                tokio::spawn(async move { store.fire_schedule(fire).await.unwrap() })
            })
            .collect();
        let mut fired = 0;
        for one in firing {
            fired += usize::from(one.await.unwrap() != Fired::Overtaken);
        }
        assert_eq!(fired, 1);
        assert_eq!(count(&fixture.store).await, round);
    }
    let seen = fixture.schedule(schedule.id).await;
    assert_eq!(seen.due_at, schedule.due_at.map(|due| due + 3 * 3_600_000));
    assert!(seen.last_at.is_some() && seen.last_task.is_some());
    assert_eq!(seen.last_error, None);
}

async fn a_task_that_has_not_ended_is_dealt_with_as_was_said(on: On) {
    let fixture = Fixture::new(on).await;
    for overlap in Overlap::ALL {
        let id = fixture.due(overlap).await.id;
        let first = tasks(&fixture.fire(id, 1).await)[0];
        let second = fixture.fire(id, 1).await;
        let Fired::Done {
            tasks,
            cancelled,
            said,
            pending,
        } = second
        else {
            panic!("overtaken");
        };
        let state = fixture.read(first).await.state;
        match overlap {
            Overlap::Skip => {
                assert!(tasks.is_empty());
                assert_eq!(
                    said.unwrap(),
                    format!("a firing is left out: task {first} has not ended")
                );
            }
            Overlap::Queue => assert_eq!((tasks.len(), pending), (0, 1)),
            Overlap::Cancel => {
                assert_eq!((tasks.len(), cancelled), (1, vec![first]));
                assert_eq!(state, TaskState::Cancelled);
            }
            Overlap::Allow => assert_eq!((tasks.len(), state), (1, TaskState::Queued)),
        }
    }
}

async fn firings_that_wait_come_one_after_the_other(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let id = fixture.due(Overlap::Queue).await.id;
    let mut last = tasks(&fixture.fire(id, 3).await)[0];
    assert_eq!(fixture.schedule(id).await.pending, 2);
    assert_eq!(store.tasks_that_schedules_wait_for().await.unwrap(), [last]);
    for pending in [1, 0] {
        assert!(store.due_schedules().await.unwrap().0.is_empty());
        fixture.end(last).await;
        let (due, _) = store.due_schedules().await.unwrap();
        assert_eq!(due.len(), 1);
        let made = tasks(&fixture.fire(id, 0).await);
        assert_eq!(made.len(), 1);
        assert_eq!(fixture.schedule(id).await.pending, pending);
        last = made[0];
    }
    fixture.end(last).await;
    assert!(store.due_schedules().await.unwrap().0.is_empty());
    assert_eq!(count(store).await, 3);
}

async fn what_cannot_be_made_is_said_and_does_not_wait(on: On) {
    let fixture = Fixture::new(on).await;
    let schedule = fixture.due(Overlap::Queue).await;
    let fire = Fire {
        task: Err("there is no plugin \"x\"".to_owned()),
        ..fire(&schedule, 4)
    };
    let fired = fixture.store.fire_schedule(fire).await.unwrap();
    assert!(tasks(&fired).is_empty());
    let seen = fixture.schedule(schedule.id).await;
    assert_eq!(seen.last_error.as_deref(), Some("there is no plugin \"x\""));
    assert_eq!((seen.pending, seen.last_task), (0, None));
    assert!(seen.due_at > schedule.due_at);
    // The next one that can be made says so.
    assert_eq!(tasks(&fixture.fire(schedule.id, 1).await).len(), 1);
    assert_eq!(fixture.schedule(schedule.id).await.last_error, None);

    let seen = fixture.schedule(schedule.id).await;
    let off = NewSchedule {
        enabled: false,
        ..seen.what.clone()
    };
    let store = &fixture.store;
    store.change_schedule(&seen, off, None, None).await.unwrap();
    assert_eq!(fixture.fire(schedule.id, 1).await, Fired::Overtaken);
    fixture.end(seen.last_task.unwrap()).await;
    let by_hand = Fire {
        by_hand: true,
        ..self::fire(&fixture.schedule(schedule.id).await, 1)
    };
    assert_eq!(tasks(&store.fire_schedule(by_hand).await.unwrap()).len(), 1);
}

fn declared(name: &str, expression: &str) -> Declared {
    let what = what(name);
    Declared {
        owner: "module".to_owned(),
        what: NewSchedule {
            rule: Rule {
                expression: expression.to_owned(),
                ..what.rule
            },
            ..what
        },
        due_at: Some(1),
        next_at: Some(1),
    }
}

async fn schedules_of_modules_follow_what_they_declare(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let module = || vec!["module".to_owned()];
    store.make_schedule(what("mine"), None, None).await.unwrap();
    let both = || vec![declared("m/a", "0 1 * * *"), declared("m/b", "0 2 * * *")];
    let changed = store.declare_schedules(module(), module(), both()).await;
    assert_eq!(changed.unwrap(), 2);
    let changed = store.declare_schedules(module(), module(), both()).await;
    assert_eq!(changed.unwrap(), 0, "nothing is different");

    // What an administrator disabled stays so, also when it is declared in another way.
    let all = store.schedules().await.unwrap();
    let first = all.iter().find(|one| one.what.name == "m/a").unwrap();
    assert_eq!(first.owner.as_deref(), Some("module"));
    let off = NewSchedule {
        enabled: false,
        ..first.what.clone()
    };
    store.change_schedule(first, off, None, None).await.unwrap();
    let other = vec![declared("m/a", "0 5 * * *"), declared("mine", "0 2 * * *")];
    let changed = store.declare_schedules(module(), module(), other).await;
    assert_eq!(changed.unwrap(), 2, "one is changed, one is gone");
    let seen = fixture.schedule(first.id).await;
    assert_eq!(seen.what.rule.expression, "0 5 * * *");
    assert!(!seen.what.enabled && seen.due_at.is_none());
    assert!(!store.remove_schedule(first.id).await.unwrap());

    // A module that could not be loaded keeps what it declared; one that is gone does not.
    let changed = store
        .declare_schedules(Vec::new(), module(), Vec::new())
        .await;
    assert_eq!(changed.unwrap(), 0);
    let row = |plugins: &[&str]| runner_store::WorkerRow {
        kind: runner_store::WorkerKind::Worker,
        host: "h".to_owned(),
        pid: 1,
        concurrency: 1,
        plugins: plugins.iter().map(|plugin| (*plugin).to_owned()).collect(),
        digests: std::collections::BTreeMap::new(),
        generation: 0,
        failing: std::collections::BTreeMap::new(),
    };
    let other = fixture.other("worker-2").await;
    other.join(row(&["hello-world@v0-2-1"])).await.unwrap();
    let nothing = async || {
        let changed = store.declare_schedules(Vec::new(), Vec::new(), Vec::new());
        changed.await.unwrap()
    };
    assert_eq!(nothing().await, 0, "another worker has the plugin");
    other.join(row(&[])).await.unwrap();
    assert_eq!(nothing().await, 1);
    let left = store.schedules().await.unwrap();
    assert_eq!((left.len(), &*left[0].what.name), (1, "mine"));
}

/// The process that fired it dies before it tells the queue.
async fn a_firing_is_a_task_like_any_other_after_a_crash(on: On) {
    let fixture = Fixture::new(on).await;
    let schedule = fixture.due(Overlap::Skip).await;
    let dying = fixture.other("worker-2").await;
    let fired = dying.fire_schedule(fire(&schedule, 1)).await.unwrap();
    let task = tasks(&fired)[0];
    drop(dying);
    let lease = std::time::Duration::from_secs(1);
    let swept = fixture.store.sweep(lease, 3).await.unwrap();
    assert_eq!(crate::numbers(&swept.jobs), [(task, 2)]);
    let mut task = fixture.read(task).await;
    let write = run_write(&mut task, Change::Failed);
    assert!(fixture.store.write_run(write).await.unwrap());
    assert_eq!(count(&fixture.store).await, 1);
}
