//! What is removed when it is old, and what is kept all the same.

use std::time::Duration;

use runner_core::file::File;
use runner_core::retention::{Ages, Retention};
use runner_core::schedule::{Kind, Missed, NewSchedule, Overlap, Rule};
use runner_core::task::{Change, NewTask, TaskState};
use runner_store::Due;
use serde_json::{Map, json};

use crate::databases::On;
use crate::schema::Direct;
use crate::{Fixture, new_task, run_write, succeeded};

on_each_database!(
    old_tasks_are_removed_with_all_that_belongs_to_them,
    what_something_needs_is_kept,
    files_are_removed_and_their_tasks_stay,
    each_state_has_an_age_of_its_own,
    of_many_processes_one_keeps_house,
    many_old_tasks_do_not_hold_up_a_new_one,
);

/// Two days, in milliseconds.
const LONG_AGO: i64 = 2 * 24 * 3_600 * 1_000;

fn retention(tasks: &str, files: &str) -> Retention {
    Retention {
        tasks: Ages::parse(tasks).unwrap(),
        files: Ages::parse(files).unwrap(),
        temporary: Duration::from_secs(3_600),
        permalinks: None,
    }
}

impl Fixture {
    /// A task with an output that has ended so.
    async fn ended(&self, change: Change) -> i64 {
        self.ended_of(new_task(), change).await
    }

    async fn ended_of(&self, task: NewTask, change: Change) -> i64 {
        let id = self.store.insert_task(task).await.unwrap().id();
        let mut task = self.read(id).await;
        let mut write = run_write(&mut task, change);
        write.outputs = vec![self.output(&format!("{id}.csv"))];
        write.log = "done".to_owned();
        assert!(self.store.write_run(write).await.unwrap());
        id
    }

    /// Lets these tasks, and their files, have been made and ended long ago.
    async fn age(&self, tasks: &[i64]) {
        let mut connection = Direct::new(self.url()).await;
        let ids: Vec<_> = tasks.iter().map(i64::to_string).collect();
        let ids = ids.join(", ");
        connection
            .run(&format!(
                "UPDATE tasks SET created_at = created_at - {LONG_AGO}, finished_at = finished_at - {LONG_AGO} \
                 WHERE id IN ({ids}); \
                 UPDATE files SET created_at = created_at - {LONG_AGO} WHERE task IN ({ids})"
            ))
            .await;
    }

    async fn remove(&self, retention: &Retention) -> Due {
        let due = self.store.due_removals(retention).await.unwrap();
        let removed = self.store.remove_old(retention).await;
        assert_eq!(removed.errors, Vec::<String>::new());
        assert_eq!(removed.due, due, "what was promised is what is done");
        removed.due
    }

    fn is_stored(&self, file: &File) -> bool {
        self.content(&file.key).exists()
    }
}

async fn old_tasks_are_removed_with_all_that_belongs_to_them(on: On) {
    let fixture = Fixture::new(on).await;
    let old = fixture.ended(succeeded()).await;
    let young = fixture.ended(succeeded()).await;
    let queued = fixture.task().await.id;
    let output = fixture.read(old).await.outputs[0].clone();
    fixture.age(&[old, queued]).await;
    assert_eq!(fixture.remove(&retention("3d", "")).await, Due::default());
    let due = fixture.remove(&retention("1d", "")).await;
    assert_eq!((due.tasks, due.files, due.kept), (1, 1, 0));
    assert_eq!(due.bytes, output.size);
    assert_eq!(fixture.store.task(old).await.unwrap(), None);
    assert!(!fixture.is_stored(&output));
    let young = fixture.read(young).await;
    assert!(fixture.is_stored(&young.outputs[0]));
    assert_eq!(fixture.read(queued).await.state, TaskState::Queued);
    assert_eq!(fixture.remove(&retention("1d", "")).await, Due::default());
}

async fn what_something_needs_is_kept(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let url = |file: &File| format!("http://h/files/{}/?file-id={}", file.id, file.tag);
    let naming = |file: &File| {
        let mut parameters = Map::new();
        parameters.insert("dataUrl".to_owned(), json!([url(file)]));
        parameters
    };
    // An input of a task that has not ended, and of a schedule.
    let input = fixture.ended(succeeded()).await;
    let file = fixture.read(input).await.outputs[0].clone();
    let reader = store
        .insert_task(NewTask {
            parameters: naming(&file),
            ..new_task()
        })
        .await
        .unwrap()
        .id();
    let scheduled = fixture.ended(succeeded()).await;
    let file = fixture.read(scheduled).await.outputs[0].clone();
    let schedule = NewSchedule {
        name: "s".to_owned(),
        plugin: "p".to_owned(),
        parameters: naming(&file),
        rule: Rule {
            kind: Kind::Interval,
            expression: "1d".to_owned(),
            time_zone: "UTC".to_owned(),
            jitter_ms: 0,
            anchor: 0,
        },
        overlap: Overlap::Skip,
        missed: Missed::Once,
        enabled: true,
        dispatch: Default::default(),
        labels: Vec::new(),
        base_url: String::new(),
    };
    store.make_schedule(schedule, None, None).await.unwrap();
    // What a task called that has not ended; what called one.
    let caller = fixture.task().await.id;
    let called = fixture
        .ended_of(
            NewTask {
                caller: Some((caller, 0)),
                ..new_task()
            },
            succeeded(),
        )
        .await;
    let gave_up = fixture.ended(Change::Failed).await;
    let goes_on = NewTask {
        caller: Some((gave_up, 0)),
        ..new_task()
    };
    let goes_on = store.insert_task(goes_on).await.unwrap().id();
    // One whose subscriber was not told yet.
    let untold = fixture.task().await.id;
    store.subscribe(untold, "http://hook/", None).await.unwrap();
    let mut task = fixture.read(untold).await;
    let write = run_write(&mut task, succeeded());
    assert!(store.write_run(write).await.unwrap());

    let kept = [input, scheduled, called, gave_up, untold];
    // Old are also those that have not ended: numbers grow with time.
    fixture.age(&kept).await;
    fixture.age(&[reader, caller, goes_on]).await;
    let due = fixture.remove(&retention("1d", "1d")).await;
    assert_eq!((due.tasks, due.files, due.kept), (0, 0, 5));
    for task in kept {
        assert!(store.task(task).await.unwrap().is_some(), "{task}");
    }

    // Once these have ended, nothing is needed.
    for id in [reader, caller, goes_on] {
        let mut task = fixture.read(id).await;
        let write = run_write(&mut task, succeeded());
        assert!(store.write_run(write).await.unwrap());
    }
    let all = store.schedules().await.unwrap();
    assert!(store.remove_schedule(all[0].id).await.unwrap());
    while let Some(due) = store
        .due_deliveries(1, Duration::from_secs(9))
        .await
        .unwrap()
        .first()
    {
        assert!(store.delivery_done(due.id).await.unwrap());
    }
    let due = fixture.remove(&retention("1d", "")).await;
    assert_eq!((due.tasks, due.kept), (5, 0));
}

async fn files_are_removed_and_their_tasks_stay(on: On) {
    let fixture = Fixture::new(on).await;
    let old = fixture.ended(succeeded()).await;
    let young = fixture.ended(succeeded()).await;
    fixture.age(&[old]).await;
    let before = fixture.read(old).await;
    let due = fixture.remove(&retention("", "1d")).await;
    assert_eq!(
        (due.tasks, due.files, due.bytes),
        (0, 1, before.outputs[0].size)
    );
    let after = fixture.read(old).await;
    assert!(after.outputs.is_empty() && !fixture.is_stored(&before.outputs[0]));
    assert_eq!(after.finished_at, before.finished_at);
    assert_eq!((after.state, after.run), (before.state, before.run));
    assert!(after.log.starts_with("done\n") && after.log.contains("kept for long enough"));
    assert_eq!(after.log_length, after.log.len() as u64);
    assert_eq!(fixture.read(young).await.outputs.len(), 1);
    assert_eq!(
        fixture.store.file(before.outputs[0].id).await.unwrap(),
        None
    );
    assert_eq!(fixture.remove(&retention("", "1d")).await, Due::default());
}

async fn each_state_has_an_age_of_its_own(on: On) {
    let fixture = Fixture::new(on).await;
    let good = fixture.ended(succeeded()).await;
    let bad = fixture.ended(Change::Failed).await;
    let cancelled = fixture.task().await.id;
    fixture.store.cancel_task(cancelled).await.unwrap();
    fixture.age(&[good, bad, cancelled]).await;
    let due = fixture
        .remove(&retention("succeeded=1d,failed=9d", "cancelled=1d"))
        .await;
    assert_eq!((due.tasks, due.files), (1, 1));
    assert_eq!(fixture.store.task(good).await.unwrap(), None);
    for kept in [bad, cancelled] {
        assert!(fixture.store.task(kept).await.unwrap().is_some());
    }
}

async fn of_many_processes_one_keeps_house(on: On) {
    let fixture = Fixture::new(on).await;
    let old = fixture.ended(succeeded()).await;
    fixture.age(&[old]).await;
    let retention = retention("1d", "");
    let pause = Duration::from_secs(3_600);
    let mut stores = vec![fixture.store.clone()];
    for number in 2..=5 {
        stores.push(fixture.other(&format!("worker-{number}")).await);
    }
    let keeping: Vec<_> = stores
        .iter()
        .map(|store| {
            let store = store.clone();
            tokio::spawn(async move { store.keep_house(&retention, pause, false).await.unwrap() })
        })
        .collect();
    let mut removed = Vec::new();
    for one in keeping {
        removed.extend(one.await.unwrap());
    }
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].due.tasks, 1);
    let known = stores[1].housekeeping().await.unwrap();
    assert_eq!(known.removed.as_ref(), Some(&removed[0]));
    assert!(known.next_at.unwrap() > known.finished_at.unwrap());
    // Not due, but somebody wants it.
    let again = stores[2]
        .keep_house(&retention, pause, false)
        .await
        .unwrap();
    assert_eq!(again, None);
    let by_hand = stores[3].keep_house(&retention, pause, true).await.unwrap();
    assert_eq!(by_hand.unwrap().due, Due::default());
}

/// New tasks are inserted while a thousand are removed; none waits for all of that.
async fn many_old_tasks_do_not_hold_up_a_new_one(on: On) {
    let fixture = Fixture::new(on).await;
    let store = fixture.store.clone();
    let mut inserts = Vec::new();
    for _ in 0..600 {
        inserts.push(store.insert_task(new_task()));
    }
    let ids: Vec<i64> = futures_of(inserts).await;
    let mut connection = Direct::new(fixture.url()).await;
    connection
        .run(&format!(
            "UPDATE tasks SET state = 'succeeded', created_at = created_at - {LONG_AGO}, \
             finished_at = created_at - {LONG_AGO}"
        ))
        .await;
    let removing = {
        let store = store.clone();
        tokio::spawn(async move { store.remove_old(&retention("1d", "")).await })
    };
    let mut slowest = Duration::ZERO;
    let mut count = 0;
    while !removing.is_finished() {
        let begin = std::time::Instant::now();
        store.insert_task(new_task()).await.unwrap();
        slowest = slowest.max(begin.elapsed());
        count += 1;
    }
    let removed = removing.await.unwrap();
    assert_eq!(removed.due.tasks as usize, ids.len());
    assert!(count > 10, "{count} tasks were made meanwhile");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
}

async fn futures_of<
    F: Future<Output = Result<runner_store::Inserted, runner_store::StoreError>>,
>(
    inserts: Vec<F>,
) -> Vec<i64> {
    let mut ids = Vec::new();
    for insert in inserts {
        ids.push(insert.await.unwrap().id());
    }
    ids
}
