//! What is written is read back the same from all databases.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use runner_core::plugin::Link;
use runner_core::task::{Change, LogWriter, NewTask, Progress, Task, TaskState};
use runner_store::{Current, PageWrite, RunWrite, Store};
use serde_json::{Map, Value, json};

use crate::databases::On;
use crate::{Fixture, new_task, numbers, run_write};

on_each_database!(odd_texts_are_read_back,);

async fn odd_texts_are_read_back(on: On) {
    let fixture = Fixture::new(on).await;
    let store = &fixture.store;
    let odd =
        "NUL \u{0} emoji 👩‍👩‍👧 \\ ' \" ` % ?1 $1 {now} \u{fffe} \r\n\t\u{7f} e\u{301} \u{10ffff} end ";
    let kept = odd.replace('\0', "\u{fffd}");
    let mut parameters = Map::new();
    parameters.insert(
        odd.to_owned(),
        json!([odd, 1.5e300, i64::MIN, null, {"": odd}]),
    );
    parameters.insert("long".to_owned(), "ä\u{0}x".repeat(350_000).into());
    let task = NewTask {
        parameters: parameters.clone(),
        base_url: odd.to_owned(),
        plugin: format!("{odd}@1"),
        ..new_task()
    };
    let id = store.insert_task(task).await.unwrap().id();
    let mut task = fixture.read(id).await;
    assert_eq!(task.parameters, parameters, "JSON has a way to write NUL");
    assert_eq!(
        (&task.base_url, &task.plugin),
        (&kept, &format!("{kept}@1"))
    );
    let webhook = format!("http://h/{odd}");
    store.subscribe(id, &webhook, None).await.unwrap();
    store.subscribe(id, &webhook, None).await.unwrap();

    let mut log = LogWriter::new(0);
    for _ in 0..150_000 {
        log.entry(odd);
    }
    let data = Some(json!({ odd: odd }));
    let mut write = run_write(&mut task, Change::Succeeded { data });
    write.log = log.finish();
    let mut output = fixture.output("x");
    (output.name, output.data_type, output.content_type) =
        (odd.to_owned(), odd.to_owned(), odd.to_owned());
    write.outputs = vec![output];
    assert!(store.write_run(write.clone()).await.unwrap());
    let read = fixture.read(id).await;
    assert!(write.log.len() > 9 << 20, "{}", write.log.len());
    assert!(read.log == write.log);
    assert_eq!(read.log_length, write.log.len() as u64);
    assert_eq!(read.data, json!({ odd: odd }));
    let file = &read.outputs[0];
    assert_eq!(
        [&file.name, &file.data_type, &file.content_type],
        [&kept; 3]
    );
    let from = read.log_length - 1000;
    let since = store.task_since(id, from, u64::MAX).await.unwrap().unwrap();
    assert!(since.log.len() >= 1000 && read.log.ends_with(&since.log));
    let due = store.deliveries_of(id).await.unwrap();
    assert_eq!(due.len(), 2);
    assert_eq!(due[0].webhook, format!("http://h/{kept}"));
    assert_eq!(store.unsubscribe(id, &webhook, None).await.unwrap(), 1);

    let other = store.insert_task(new_task()).await.unwrap().id();
    let reason = format!("{odd}{}", "x".repeat(20_000));
    assert!(store.fail_task(other, 1, &reason).await.unwrap());
    assert!(!store.fail_task(other, 1, &reason).await.unwrap());
    let read = fixture.read(other).await;
    assert_eq!(read.log, reason.replace('\0', "\u{fffd}"));
    assert_eq!(read.log_length, read.log.len() as u64);
}

/// Something that is done to a task.
#[derive(Debug, Clone)]
enum Act {
    /// By the run that the worker believes is current; with so much log, and an output.
    Run(Change, usize, bool),
    /// On a page; with a wrong version.
    Page(Change, bool),
    Cancel,
    Retry,
    Lost(i64),
    Fail,
    Recover,
    Requeue,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => Just(Change::Started),
        1 => (0..100_u8).prop_map(|value| Change::Progressed(Progress {
            value: value.into(),
            start: 0.0,
            target: 100.0,
            unit: "%".to_owned(),
        })),
        2 => "[ab]".prop_map(|step_id| Change::StepAdded {
            step: "s".to_owned(),
            step_id,
            values: Map::new(),
        }),
        1 => "[a-c\u{0}ä]".prop_map(|href| Change::LinkAdded(Link { kind: "k".to_owned(), href })),
        2 => proptest::option::of(any::<bool>().prop_map(Value::from))
            .prop_map(|data| Change::Succeeded { data }),
        1 => Just(Change::Failed),
        1 => Just(Change::RetryAt(9)),
    ]
}

fn act() -> impl Strategy<Value = Act> {
    let submit = "[ab]".prop_map(|step_id| Change::StepSubmitted {
        step_id,
        parameters: Map::new(),
    });
    prop_oneof![
        12 => (change(), prop_oneof![Just(0), Just(3), Just(9_000), Just(40_000)], any::<bool>())
            .prop_map(|(change, log, output)| Act::Run(change, log, output)),
        4 => (submit, proptest::bool::weighted(0.2)).prop_map(|(change, wrong)| Act::Page(change, wrong)),
        1 => Just(Act::Cancel),
        2 => Just(Act::Retry),
        1 => (0..3_i64).prop_map(Act::Lost),
        1 => Just(Act::Fail),
        1 => Just(Act::Recover),
        1 => Just(Act::Requeue),
    ]
}

/// What a task is, and what was answered, without times, numbers and secrets. After each act it is what `other` reads,
/// which has nothing in memory.
async fn play(fixture: &Fixture, other: Option<&Store>, acts: &[Act]) -> (Task, Vec<String>) {
    let store = &fixture.store;
    let id = store.insert_task(new_task()).await.unwrap().id();
    store.subscribe(id, "http://h/", None).await.unwrap();
    let mut answers = Vec::new();
    for act in acts {
        let mut task = fixture.read(id).await;
        let run = task.run;
        let answer = match act {
            Act::Run(change, log, output) => match task.apply(change.clone()) {
                Err(refused) => format!("{refused}"),
                Ok(events) => {
                    let outputs = output.then(|| fixture.output("o")).into_iter().collect();
                    let write = RunWrite {
                        task,
                        run,
                        log: "ä\u{0}".repeat(log / 3),
                        outputs,
                        events,
                    };
                    format!("{:?}", store.write_run(write).await)
                }
            },
            Act::Page(change, is_wrong) => {
                let version = task.version - i64::from(*is_wrong);
                match task.apply(change.clone()) {
                    Err(refused) => format!("{refused}"),
                    Ok(events) => {
                        let write = PageWrite {
                            task: &task,
                            expected_version: version,
                            events: &events,
                            uploads: &[],
                            log: "page",
                        };
                        format!("{:?}", store.write_page_with(write).await)
                    }
                }
            }
            Act::Cancel => format!("{}", store.cancel_task(id).await.unwrap().unwrap().len()),
            Act::Retry => {
                let retried = format!("{:?}", store.retry_task(id).await.unwrap());
                retried.replace(&id.to_string(), "id")
            }
            Act::Lost(max) => {
                let lost = store.lost_run(id, run, *max, "lost\u{0}").await.unwrap();
                format!("{lost:?}").replace(&id.to_string(), "id")
            }
            Act::Fail => format!("{:?}", store.fail_task(id, run, "no\u{0}").await),
            Act::Recover => {
                let recovered = store.recover(2).await.unwrap();
                let runs: Vec<_> = numbers(&recovered.jobs)
                    .iter()
                    .map(|(_, run)| *run)
                    .collect();
                format!("{runs:?} {}", recovered.failed.len())
            }
            Act::Requeue => {
                let jobs = store.requeue_queued(Default::default(), id - 1, 9).await;
                let runs: Vec<_> = numbers(&jobs.unwrap())
                    .iter()
                    .map(|(_, run)| *run)
                    .collect();
                format!("{runs:?}")
            }
        };
        answers.push(answer);
        if let Some(other) = other {
            let read = other.task(id).await.unwrap().unwrap();
            assert_eq!(fixture.read(id).await, read, "after {act:?} of {acts:?}");
            // How long it has waited is another matter a moment later.
            let task = |current: Option<Current>| current.map(|current| current.task);
            let begun = task(store.task_for_run(id, read.run).await.unwrap());
            let other_begun = task(other.task_for_run(id, read.run).await.unwrap());
            assert_eq!(begun, other_begun, "after {act:?} of {acts:?}");
        }
    }
    for delivery in store.deliveries_of(id).await.unwrap() {
        answers.push(format!("{:?} {}", delivery.event, delivery.attempts));
    }
    let mut task = fixture.read(id).await;
    if !task.state.is_finished() {
        // Nothing is left for those who recover after it.
        store.cancel_task(id).await.unwrap();
    }
    assert_eq!(task.finished_at.is_some(), task.state.is_finished());
    assert!(task.state != TaskState::Failed || task.log_length == task.log.len() as u64);
    for (number, file) in (0..).zip(&mut task.outputs) {
        (file.id, file.created_at) = (number, 0);
        (file.key, file.tag) = (String::new(), String::new());
    }
    let number = format!("/{id}/");
    for step in &mut task.steps {
        step.href = step.href.replace(&number, "/id/");
        step.ui_href = step.ui_href.replace(&number, "/id/");
    }
    task.finished_at = task.finished_at.map(|_| 0);
    (task.id, task.created_at) = (0, 0);
    (task, answers)
}

#[test]
fn the_same_changes_give_the_same_tasks_on_all_databases() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (fixtures, alone, other) = runtime.block_on(async {
        let mut fixtures = Vec::new();
        for on in On::ALL {
            fixtures.push(Fixture::new(on).await);
        }
        let alone = Fixture::alone().await;
        let other = alone.other("reader").await;
        (fixtures, alone, other)
    });
    let config = Config {
        cases: 60,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&proptest::collection::vec(act(), 1..20), |acts| {
        let [sqlite, postgres, mysql, in_memory] = runtime.block_on(async {
            let (a, b, c, d) = tokio::join!(
                play(&fixtures[0], None, &acts),
                play(&fixtures[1], None, &acts),
                play(&fixtures[2], None, &acts),
                play(&alone, Some(&other), &acts),
            );
            [a, b, c, d]
        });
        prop_assert_eq!(&sqlite, &in_memory);
        prop_assert_eq!(&sqlite, &postgres);
        prop_assert_eq!(&sqlite, &mysql);
        Ok(())
    });
    outcome.unwrap();
}
