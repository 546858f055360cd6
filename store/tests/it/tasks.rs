use runner_core::plugin::Link;
use runner_core::task::{Change, Progress, TaskEvent, TaskState};
use serde_json::{Map, json};

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, new_task, run_write, succeeded};

on_each_database!(
    a_new_task_is_read_as_it_was_given,
    a_task_with_a_step_lives_its_whole_life,
    five_hundred_concurrent_inserts_all_get_a_number_of_their_own,
    a_task_is_for_a_run_only_while_that_is_its_current_one,
);

async fn a_new_task_is_read_as_it_was_given(on: On) {
    let fixture = Fixture::new(on).await;
    let task = fixture.task().await;
    let given = new_task();
    assert_eq!(task.id, 1);
    assert_eq!((task.state, task.run), (TaskState::Queued, 1));
    assert_eq!((task.attempts, task.version, task.log_length), (0, 0, 0));
    assert_eq!(task.parameters, given.parameters);
    assert_eq!(task.plugin, given.plugin);
    assert_eq!(task.digest, given.digest);
    assert_eq!(task.base_url, given.base_url);
    assert!(task.created_at > 1_700_000_000_000);
    assert_eq!(task.finished_at, None);
    assert_eq!(fixture.store.task(2).await.unwrap(), None);
}

async fn a_task_with_a_step_lives_its_whole_life(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let hook = "http://hook/";
    store.subscribe(task.id, hook, None).await.unwrap();

    let mut write = run_write(&mut task, Change::Started);
    write.log = "started".to_owned();
    assert!(store.write_run(write).await.unwrap());
    let progress = Progress {
        value: 40.0,
        start: 0.0,
        target: 100.0,
        unit: "%".to_owned(),
    };
    let write = run_write(&mut task, Change::Progressed(progress.clone()));
    assert!(store.write_run(write).await.unwrap());
    let seen = fixture.read(task.id).await;
    assert_eq!((seen.state, seen.version), (TaskState::Running, 2));
    assert_eq!(seen.progress, Some(progress));
    assert_eq!(seen.log, "started");

    let link = Link {
        kind: "more".to_owned(),
        href: "http://x/".to_owned(),
    };
    task.apply(Change::LinkAdded(link.clone())).unwrap();
    let mut values = Map::new();
    values.insert("a".to_owned(), json!([1, null]));
    let step = Change::StepAdded {
        step: "demo".to_owned(),
        step_id: "s1".to_owned(),
        values,
    };
    task.apply(step).unwrap();
    let data = Some(json!({"kept": true}));
    let mut write = run_write(&mut task, Change::Succeeded { data });
    write.log = "\nfirst".to_owned();
    write.outputs = vec![fixture.output("a.csv")];
    assert!(store.write_run(write).await.unwrap());
    let mut seen = fixture.read(task.id).await;
    assert_eq!(seen.state, TaskState::Waiting);
    assert_eq!((&seen.links, &seen.steps), (&vec![link], &task.steps));
    assert_eq!(seen.data, json!({"kept": true}));
    assert_eq!(store.task_for_run(task.id, 1).await.unwrap(), None);

    let mut parameters = Map::new();
    parameters.insert("b".to_owned(), json!("2"));
    let version = seen.version;
    let submit = Change::StepSubmitted {
        step_id: "s1".to_owned(),
        parameters,
    };
    let events = seen.apply(submit).unwrap();
    assert!(store.write_page(&seen, version, &events).await.unwrap());

    // Another worker may take the step: the one of the first run does not hold the task any more.
    let mut task = store.task_for_run(task.id, 2).await.unwrap().unwrap().task;
    assert_eq!(task.step, seen.step);
    assert_eq!(task.log, "started\nfirst");
    let mut write = run_write(&mut task, succeeded());
    let other = fixture.other("worker-2").await;
    write.log = "\nsecond".to_owned();
    write.outputs = vec![fixture.output("b.csv"), fixture.output("c.csv")];
    assert!(other.write_run(write).await.unwrap());
    let seen = fixture.read(task.id).await;
    assert_eq!(seen.state, TaskState::Succeeded);
    assert!(seen.finished_at.unwrap() >= seen.created_at);
    assert_eq!(seen.log, "started\nfirst\nsecond");
    assert_eq!(seen.log_length, seen.log.len() as u64);
    assert_eq!(seen.step, None);
    let names: Vec<_> = seen.outputs.iter().map(|file| &file.name).collect();
    assert_eq!(names, ["a.csv", "b.csv", "c.csv"]);

    let mut events = Vec::new();
    while let Some(due) = store.due_deliveries(10, LEASE).await.unwrap().first() {
        events.push(due.event);
        store.delivery_done(due.id).await.unwrap();
    }
    use TaskEvent::{Details, Status, Steps};
    assert_eq!(events, [Steps, Details, Steps, Status, Details]);
}

async fn five_hundred_concurrent_inserts_all_get_a_number_of_their_own(on: On) {
    let fixture = Fixture::new(on).await;
    let inserts: Vec<_> = (0..500)
        .map(|_| {
            let store = fixture.store.clone();
            tokio::spawn(async move { store.insert_task(new_task()).await.unwrap().id() })
        })
        .collect();
    let mut ids = Vec::new();
    for insert in inserts {
        ids.push(insert.await.unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 500);
    assert_eq!(fixture.store.recover(3).await.unwrap().jobs.len(), 500);
}

async fn a_task_is_for_a_run_only_while_that_is_its_current_one(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    for run in [0, 2] {
        assert_eq!(store.task_for_run(task.id, run).await.unwrap(), None);
    }
    assert_eq!(store.task_for_run(9, 1).await.unwrap(), None);
    assert!(store.task_for_run(task.id, 1).await.unwrap().is_some());
    let write = run_write(&mut task, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    assert!(store.task_for_run(task.id, 1).await.unwrap().is_some());
    let write = run_write(&mut task, Change::Failed);
    assert!(store.write_run(write).await.unwrap());
    assert_eq!(store.task_for_run(task.id, 1).await.unwrap(), None);
}
