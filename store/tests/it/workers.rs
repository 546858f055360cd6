use std::time::Duration;

use runner_core::task::{Change, Priority, TaskEvent, TaskState};
use runner_store::{Beat, LostRun, Retried, Store, WorkerKind, WorkerRow};

use crate::databases::On;
use crate::deliveries::LEASE;
use crate::{Fixture, new_task, numbers, run_write, succeeded};

on_each_database!(
    those_who_join_are_listed_until_they_leave,
    tasks_of_a_dead_worker_are_swept_once,
    tasks_that_a_dead_process_queued_are_queued_again,
    a_sweep_fails_what_was_lost_too_often,
    many_tasks_are_swept_in_parts,
    a_run_that_is_lost_is_followed_by_another,
    a_task_that_failed_is_run_once_more,
    a_retry_has_the_next_run,
    one_process_adopts_an_incarnation,
    what_is_queued_is_queued_again_in_parts,
    a_worker_hears_which_runs_are_not_current,
    queues_do_not_see_each_other,
    counts_are_those_of_the_tasks,
    queued_tasks_are_counted_by_their_plugins,
    a_run_is_told_how_long_it_has_waited,
);

fn row() -> WorkerRow {
    WorkerRow {
        kind: WorkerKind::Worker,
        host: "ä-host".to_owned(),
        pid: 77,
        concurrency: 4,
        plugins: vec!["hello-world@v0-2-1".to_owned()],
        digests: [("hello-world@v0-2-1".to_owned(), "abc".to_owned())].into(),
        generation: 7,
        failing: [("solver".to_owned(), "no such file".to_owned())].into(),
    }
}

/// Waits until all but these were silent for longer than a lease that these have kept. Answers the lease.
async fn outlived_by(living: &[&Store]) -> Duration {
    let lease = Duration::from_secs(1);
    loop {
        for store in living {
            assert!(store.beat().await.unwrap().known);
        }
        let workers = living[0].workers().await.unwrap();
        let is_living = |process: &str| living.iter().any(|store| store.process() == process);
        let mut others = workers.iter().filter(|worker| !is_living(&worker.process));
        if others.all(|worker| worker.silent_for > lease) {
            return lease;
        }
        tokio::time::sleep(lease / 10).await;
    }
}

async fn those_who_join_are_listed_until_they_leave(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    assert_eq!(store.beat().await.unwrap(), Beat { known: false });
    store.join(row()).await.unwrap();
    let changed = WorkerRow {
        plugins: Vec::new(),
        kind: WorkerKind::Both,
        ..row()
    };
    store.join(changed).await.unwrap();
    let other = fixture.other("worker-2").await;
    other.join(row()).await.unwrap();
    assert_eq!(store.beat().await.unwrap(), Beat { known: true });
    let workers = store.workers().await.unwrap();
    assert_eq!(workers.len(), 2);
    let first = workers
        .iter()
        .find(|worker| worker.process == "worker-1")
        .unwrap();
    assert_eq!(
        (first.row.kind, first.queue.as_str()),
        (WorkerKind::Both, "default")
    );
    assert!(first.beat_at >= first.started_at && first.stopped_at.is_none());
    assert!(first.silent_for < Duration::from_secs(60));
    let second = workers
        .iter()
        .find(|worker| worker.process == "worker-2")
        .unwrap();
    assert_eq!(second.row.plugins, row().plugins);
    assert_eq!((second.row.pid, second.row.concurrency), (77, 4));
    assert_eq!(second.row.host, "ä-host");
    other.leave().await.unwrap();
    assert_eq!(other.beat().await.unwrap(), Beat { known: false });
    let workers = store.workers().await.unwrap();
    let left = workers.iter().filter(|worker| worker.stopped_at.is_some());
    assert_eq!(
        left.map(|worker| &*worker.process).collect::<Vec<_>>(),
        ["worker-2"]
    );
}

async fn tasks_of_a_dead_worker_are_swept_once(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let dead = fixture.other("dead").await;
    store.join(row()).await.unwrap();
    dead.join(row()).await.unwrap();
    let mut lost = fixture.task().await;
    let write = run_write(&mut lost, Change::Started);
    assert!(dead.write_run(write).await.unwrap());
    let mut alive = fixture.task().await;
    let write = run_write(&mut alive, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let nothing = store.sweep(LEASE, 3).await.unwrap();
    assert_eq!(nothing, Default::default(), "both are alive");

    let other = fixture.other("worker-2").await;
    other.join(row()).await.unwrap();
    let lease = outlived_by(&[store, &other]).await;
    // Two of those who live find the same, and one of them has it.
    let (a, b) = tokio::join!(store.sweep(lease, 3), other.sweep(lease, 3));
    let mut jobs = numbers(&a.unwrap().jobs);
    jobs.extend(numbers(&b.unwrap().jobs));
    assert_eq!(jobs, [(lost.id, 2)]);
    let seen = fixture.read(lost.id).await;
    assert_eq!(
        (seen.state, seen.run, seen.attempts),
        (TaskState::Queued, 2, 1)
    );
    let late = run_write(&mut lost, succeeded());
    assert!(!dead.write_run(late).await.unwrap(), "the fence");

    // One who left in peace runs nothing any more.
    store.leave().await.unwrap();
    let swept = other.sweep(LEASE, 3).await.unwrap();
    assert_eq!(numbers(&swept.jobs), [(alive.id, 2)]);
    assert_eq!(other.sweep(LEASE, 3).await.unwrap(), Default::default());
}

async fn tasks_that_a_dead_process_queued_are_queued_again(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    store.join(row()).await.unwrap();
    let (dead, left) = (fixture.other("dead").await, fixture.other("left").await);
    dead.join(row()).await.unwrap();
    left.join(row()).await.unwrap();
    let mut urgent = new_task();
    urgent.dispatch.priority = Priority::High;
    urgent.dispatch.submitter = "me".to_owned();
    urgent.dispatch.run_at = Some(9_000_000_000_000);
    let of_dead = dead.insert_task(urgent).await.unwrap().id();
    left.insert_task(new_task()).await.unwrap();
    fixture.task().await;
    left.leave().await.unwrap();
    assert_eq!(store.sweep(LEASE, 3).await.unwrap(), Default::default());

    // The queue has two leases to give out again what it knows of.
    let lease = outlived_by(&[store]).await / 2;
    let swept = store.sweep(lease, 3).await.unwrap();
    assert_eq!(numbers(&swept.jobs), [(of_dead, 2)]);
    let job = &swept.jobs[0];
    assert_eq!(
        (job.priority, job.submitter.as_str()),
        (Priority::High, "me")
    );
    assert_eq!(job.not_before, Some(9_000_000_000_000));
    let seen = fixture.read(of_dead).await;
    assert_eq!(
        (seen.run, seen.attempts, seen.state),
        (2, 0, TaskState::Queued)
    );
    let again = store.sweep(lease, 3).await.unwrap();
    assert_eq!(again.jobs, [], "it was queued by one who lives");
}

async fn a_sweep_fails_what_was_lost_too_often(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    store.join(row()).await.unwrap();
    let dead = fixture.other("dead").await;
    let id = fixture.task().await.id;
    store.subscribe(id, "http://h/", None).await.unwrap();
    for run in 1..=3 {
        let mut task = dead.task_for_run(id, run).await.unwrap().unwrap().task;
        let write = run_write(&mut task, Change::Started);
        assert!(dead.write_run(write).await.unwrap());
        let swept = store.sweep(LEASE, 2).await.unwrap();
        match run {
            3 => assert_eq!((swept.jobs.len(), &*swept.failed), (0, &[id][..])),
            _ => assert_eq!(numbers(&swept.jobs), [(id, run + 1)]),
        }
    }
    let task = fixture.read(id).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.log.contains("ended 3 times"), "{}", task.log);
    let due = store.due_deliveries(10, LEASE).await.unwrap();
    assert_eq!(due[0].event, TaskEvent::Status);
}

async fn many_tasks_are_swept_in_parts(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    store.join(row()).await.unwrap();
    let dead = fixture.other("dead").await;
    let inserts = (0..1_005).map(|_| {
        let dead = dead.clone();
        tokio::spawn(async move { dead.insert_task(new_task()).await.unwrap().id() })
    });
    let inserts: Vec<_> = inserts.collect();
    let mut ids = Vec::new();
    for insert in inserts {
        ids.push(insert.await.unwrap());
    }
    ids.sort_unstable();
    let first = store.sweep(LEASE, 3).await.unwrap();
    assert!(first.has_more && first.jobs.len() == 1_000);
    let second = store.sweep(LEASE, 3).await.unwrap();
    assert!(!second.has_more);
    let jobs: Vec<_> = first
        .jobs
        .iter()
        .chain(&second.jobs)
        .map(|offer| offer.job.task)
        .collect();
    assert_eq!(jobs, ids);
}

async fn a_run_that_is_lost_is_followed_by_another(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let write = run_write(&mut task, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let lost = async |run| {
        store
            .lost_run(task.id, run, 2, "its host died")
            .await
            .unwrap()
    };
    for run in 1..=2 {
        let LostRun::Again(job) = lost(run).await else {
            panic!("it may be tried again");
        };
        assert_eq!((job.job.task, job.job.run), (task.id, run + 1));
        assert_eq!(lost(run).await, LostRun::Overtaken);
    }
    assert_eq!(lost(3).await, LostRun::Failed);
    let seen = fixture.read(task.id).await;
    assert_eq!(
        (seen.state, seen.log.as_str()),
        (TaskState::Failed, "its host died")
    );
    assert_eq!(lost(4).await, LostRun::Overtaken);
    let unknown = store.lost_run(task.id + 1, 1, 2, "").await.unwrap();
    assert_eq!(unknown, LostRun::Overtaken);
}

async fn a_task_that_failed_is_run_once_more(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut task = fixture.task().await;
    let retry = async |id| store.retry_task(id).await.unwrap();
    assert_eq!(retry(task.id).await, Retried::Refused(TaskState::Queued));
    assert_eq!(retry(task.id + 1).await, Retried::Unknown);
    let mut write = run_write(&mut task, Change::Failed);
    write.log = "no".to_owned();
    assert!(store.write_run(write).await.unwrap());
    let (a, b) = tokio::join!(retry(task.id), retry(task.id));
    let queued = [&a, &b]
        .into_iter()
        .filter(|r| matches!(r, Retried::Queued(offer) if offer.job.run == 2));
    assert_eq!(queued.count(), 1, "{a:?} {b:?}");
    let seen = fixture.read(task.id).await;
    assert_eq!(
        (seen.state, seen.run, seen.finished_at),
        (TaskState::Queued, 2, None)
    );
    let other = fixture.other("worker-2").await;
    let mut task = other.task_for_run(task.id, 2).await.unwrap().unwrap().task;
    let write = run_write(&mut task, succeeded());
    assert!(other.write_run(write).await.unwrap(), "nobody holds it");
}

async fn a_retry_has_the_next_run(on: On) {
    let fixture = Fixture::new(on).await;
    let mut task = fixture.task().await;
    let write = run_write(&mut task, Change::Started);
    assert!(fixture.store.write_run(write).await.unwrap());
    let mut write = run_write(&mut task, Change::RetryAt(9_000_000_000_000));
    write.log = "failed".to_owned();
    assert_eq!((write.run, write.task.run), (1, 2));
    assert!(fixture.store.write_run(write.clone()).await.unwrap());
    assert!(!fixture.store.write_run(write).await.unwrap(), "the fence");
    let seen = fixture.read(task.id).await;
    assert_eq!((seen.state, seen.run), (TaskState::Queued, 2));
    assert_eq!((seen.failures, seen.attempts), (1, 0));
    assert_eq!(seen.dispatch.run_at, Some(9_000_000_000_000));
    assert_eq!((seen.log.as_str(), seen.finished_at), ("failed", None));
    let other = fixture.other("worker-2").await;
    let mut task = other.task_for_run(task.id, 2).await.unwrap().unwrap().task;
    let write = run_write(&mut task, succeeded());
    assert!(other.write_run(write).await.unwrap(), "nobody holds it");
}

async fn one_process_adopts_an_incarnation(on: On) {
    let fixture = Fixture::new(on).await;
    let other = fixture.other("worker-2").await;
    for incarnation in ["a", "b", "a"] {
        let adopt = async |store: &Store| store.adopt_incarnation(incarnation).await.unwrap();
        let (a, b) = tokio::join!(adopt(&fixture.store), adopt(&other));
        assert_ne!(a, b, "{incarnation}");
        assert!(!adopt(&fixture.store).await && !adopt(&other).await);
    }
}

async fn what_is_queued_is_queued_again_in_parts(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(fixture.task().await.id);
    }
    let mut running = fixture.task().await;
    let write = run_write(&mut running, Change::Started);
    assert!(store.write_run(write).await.unwrap());
    let young = store.requeue_queued(LEASE, 0, 10).await.unwrap();
    assert_eq!(young, []);
    let mut jobs = Vec::new();
    loop {
        let after = jobs.last().map_or(0, |(task, _)| *task);
        let next = store
            .requeue_queued(Duration::ZERO, after, 2)
            .await
            .unwrap();
        assert!(next.len() <= 2);
        if next.is_empty() {
            break;
        }
        jobs.extend(numbers(&next));
    }
    let expected: Vec<_> = ids.iter().map(|id| (*id, 2)).collect();
    assert_eq!(jobs, expected);
    assert_eq!(fixture.read(ids[0]).await.attempts, 0);
}

async fn a_worker_hears_which_runs_are_not_current(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let other = fixture.other("worker-2").await;
    let mut tasks = Vec::new();
    for _ in 0..5 {
        let mut task = fixture.task().await;
        let write = run_write(&mut task, Change::Started);
        let holder = if tasks.len() == 1 { &other } else { store };
        assert!(holder.write_run(write).await.unwrap());
        tasks.push(task);
    }
    let queued = fixture.task().await;
    let mut held: Vec<_> = tasks.iter().map(|task| (task.id, 1)).collect();
    held.remove(1);
    assert_eq!(store.held_runs().await.unwrap(), held);
    assert_eq!(other.held_runs().await.unwrap(), [(tasks[1].id, 1)]);
    store.cancel_task(tasks[2].id).await.unwrap();
    store.delete_task(tasks[3].id).await.unwrap();
    store.lost_run(tasks[4].id, 1, 3, "").await.unwrap();
    let mut runs: Vec<_> = tasks.iter().map(|task| (task.id, task.run)).collect();
    runs.push((queued.id, 1));
    let gone: Vec<_> = tasks[1..].iter().map(|task| task.id).collect();
    assert_eq!(store.overtaken_runs(&runs).await.unwrap(), gone);
    assert!(store.overtaken_runs(&[]).await.unwrap().is_empty());
}

async fn queues_do_not_see_each_other(on: On) {
    let fixture = Fixture::new(on).await;
    let config = runner_store::StoreConfig {
        queue: "other".to_owned(),
        process: "worker-2".to_owned(),
        is_alone: false,
        ..fixture.config.clone()
    };
    let other = Store::open(&config).await.unwrap();
    let task = fixture.task().await;
    assert_eq!(
        other.sweep(Duration::ZERO, 3).await.unwrap(),
        Default::default()
    );
    assert_eq!(other.recover(3).await.unwrap(), Default::default());
    let requeued = other.requeue_queued(Duration::ZERO, 0, 10).await.unwrap();
    assert_eq!(requeued, []);
    assert!(other.adopt_incarnation("a").await.unwrap());
    assert!(fixture.store.adopt_incarnation("a").await.unwrap());
    let recovered = fixture.store.recover(3).await.unwrap();
    assert_eq!(numbers(&recovered.jobs), [(task.id, 2)]);
}

async fn queued_tasks_are_counted_by_their_plugins(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    assert!(store.queued_by_plugin().await.unwrap().is_empty());
    for plugin in ["a@1", "b@1", "a@1"] {
        let mut task = new_task();
        task.plugin = plugin.to_owned();
        store.insert_task(task).await.unwrap();
    }
    let counts = store.queued_by_plugin().await.unwrap();
    let counts: Vec<_> = counts
        .iter()
        .map(|(plugin, count)| (plugin.as_str(), *count))
        .collect();
    assert_eq!(counts, [("a@1", 2), ("b@1", 1)]);
}

async fn counts_are_those_of_the_tasks(on: On) {
    let fixture = Fixture::new(on).await;
    fixture.task().await;
    let mut running = fixture.task().await;
    fixture
        .store
        .subscribe(running.id, "http://h/", None)
        .await
        .unwrap();
    let write = run_write(&mut running, Change::Started);
    assert!(fixture.store.write_run(write).await.unwrap());
    let mut ended = fixture.task().await;
    fixture
        .store
        .subscribe(ended.id, "http://h/", None)
        .await
        .unwrap();
    let write = run_write(&mut ended, succeeded());
    assert!(fixture.store.write_run(write).await.unwrap());
    let counts = fixture.store.counts(LEASE).await.unwrap();
    assert_eq!((counts.queued, counts.running, counts.waiting), (1, 1, 0));
    assert_eq!((counts.deliveries, counts.given_up), (2, 0));
    let processes = (counts.servers, counts.workers, counts.both, counts.silent);
    assert_eq!(processes, (0, 0, 0, 0));
    let store = &fixture.store;
    let runs = store.running().await.unwrap();
    assert_eq!(runs.len(), 1);
    assert_eq!((runs[0].id, runs[0].run), (running.id, running.run));
    assert_eq!(
        (&runs[0].plugin, &*runs[0].holder),
        (&running.plugin, store.process())
    );
    store.join(row()).await.unwrap();
    assert_eq!(store.counts(LEASE).await.unwrap().workers, 1);
    assert_eq!(store.others(LEASE).await.unwrap(), []);
    let other = fixture.other("worker-2").await;
    let seen = other.others(LEASE).await.unwrap();
    assert_eq!((seen.len(), &*seen[0].process), (1, store.process()));
    store.leave().await.unwrap();
    assert_eq!(other.others(LEASE).await.unwrap(), []);
    store.check_file_store("here").await.unwrap();
    store.check_sql().await.unwrap();
    store.probe_files().unwrap();
}

async fn a_run_is_told_how_long_it_has_waited(on: On) {
    let fixture = Fixture::new(on).await;
    let task = fixture.task().await;
    let current = fixture
        .store
        .task_for_run(task.id, 1)
        .await
        .unwrap()
        .unwrap();
    assert!(
        current.waited < Duration::from_secs(60),
        "{:?}",
        current.waited
    );
    assert_eq!(current.task.id, task.id);
}
