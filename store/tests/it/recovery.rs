use runner_core::task::{Change, TaskEvent, TaskState};

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, numbers, run_write, succeeded};

on_each_database!(
    a_start_queues_again_what_had_not_ended,
    a_task_that_is_lost_too_often_fails_and_says_so,
    what_was_not_closed_is_all_there_when_opened_again,
);

async fn a_start_queues_again_what_had_not_ended(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let queued = fixture.task().await;
    let mut running = fixture.task().await;
    let write = run_write(&mut running, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let mut ended = fixture.task().await;
    let mut late = run_write(&mut ended, succeeded());
    late.task.id = running.id;
    let write = late.clone();
    let ended_id = ended.id;
    let mut own = write;
    own.task.id = ended_id;
    assert!(store.write_run(own).await.unwrap());
    let mut waiting = fixture.task().await;
    let step = Change::StepAdded {
        step: "s".to_owned(),
        step_id: "s".to_owned(),
        values: Default::default(),
    };
    waiting.apply(step).unwrap();
    let write = run_write(&mut waiting, succeeded());
    assert!(store.write_run(write).await.unwrap());

    let recovered = store.recover(3).await.unwrap();
    assert_eq!(numbers(&recovered.jobs), [(queued.id, 2), (running.id, 2)]);
    assert!(recovered.failed.is_empty());
    let seen = fixture.read(queued.id).await;
    assert_eq!((seen.run, seen.attempts, seen.version), (2, 0, 1));
    let seen = fixture.read(running.id).await;
    assert_eq!((seen.run, seen.attempts), (2, 1));
    assert_eq!(seen.state, TaskState::Queued);
    assert!(!store.write_run(late.clone()).await.unwrap(), "the fence");
    (late.run, late.task.run) = (2, 2);
    let other = fixture.other("worker-2").await;
    assert!(other.write_run(late).await.unwrap(), "nobody holds it");
    let seen = fixture.read(waiting.id).await;
    assert_eq!((seen.state, seen.run), (TaskState::Waiting, 1));
}

async fn a_task_that_is_lost_too_often_fails_and_says_so(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let id = fixture.task().await.id;
    store.subscribe(id, "http://h/", None).await.unwrap();
    for run in 1..=3 {
        let mut task = store.task_for_run(id, run).await.unwrap().unwrap().task;
        let mut write = run_write(&mut task, Change::Started);
        write.log = if run == 1 { "begun" } else { "\nagain" }.to_owned();
        assert!(store.write_run(write).await.unwrap());
        let recovered = store.recover(2).await.unwrap();
        if run < 3 {
            assert_eq!(numbers(&recovered.jobs), [(id, run + 1)]);
        } else {
            assert!(recovered.jobs.is_empty());
            assert_eq!(recovered.failed, [id]);
        }
    }
    let task = fixture.read(id).await;
    assert_eq!((task.state, task.run), (TaskState::Failed, 4));
    assert!(task.finished_at.is_some());
    let last = task.log.lines().last().unwrap();
    assert!(
        task.log.starts_with("begun\nagain\nagain\n"),
        "{}",
        task.log
    );
    assert!(last.contains("ended 3 times"), "{last}");
    let due = store.due_deliveries(10, LEASE).await.unwrap();
    assert_eq!(due[0].event, TaskEvent::Status);
    assert_eq!(store.recover(2).await.unwrap(), Default::default());
}

async fn what_was_not_closed_is_all_there_when_opened_again(on: On) {
    let fixture = Fixture::new(on).await;
    let store = fixture.other("worker-2").await;
    let mut ids = Vec::new();
    for _ in 0..20 {
        ids.push((store.insert_task(crate::new_task()).await.unwrap().id(), 2));
    }
    drop(store);
    let store = fixture.other("worker-3").await;
    let recovered = store.recover(3).await.unwrap();
    assert_eq!(numbers(&recovered.jobs), ids);
}
