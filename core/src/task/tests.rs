use super::*;
use proptest::prelude::*;
use serde_json::json;

fn task() -> Task {
    let task = NewTask {
        plugin: "multi step@v0-2-1".to_owned(),
        base_url: "http://host:5005".to_owned(),
        ..NewTask::default()
    };
    task.made(9, 0)
}

fn step(id: &str) -> Change {
    Change::StepAdded {
        step: "demo".to_owned(),
        step_id: id.to_owned(),
        values: Map::new(),
    }
}

fn submit(id: &str) -> Change {
    Change::StepSubmitted {
        step_id: id.to_owned(),
        parameters: Map::new(),
    }
}

#[test]
fn a_task_with_a_step_tells_its_subscribers_what_the_reference_tells() {
    use TaskEvent::{Details, Status, Steps};
    let mut task = task();
    assert_eq!(task.apply(step("demo-step")), Ok(vec![]));
    assert_eq!(
        task.apply(Change::Succeeded {
            data: Some(json!({"a": 1}))
        }),
        Ok(vec![Steps, Details])
    );
    assert_eq!(task.state, TaskState::Waiting);
    assert_eq!(
        task.steps[0].href,
        "http://host:5005/plugins/multi%20step@v0-2-1/9/demo-step-process/"
    );
    assert_eq!(task.apply(submit("demo-step")), Ok(vec![Steps]));
    assert_eq!((task.state, task.run), (TaskState::Queued, 2));
    assert_eq!(
        task.apply(Change::Succeeded { data: None }),
        Ok(vec![Status, Details])
    );
    assert_eq!(task.data, json!({"a": 1}));
    assert_eq!(
        task.apply(submit("demo-step")),
        Err(Refused::Cleared("demo-step".to_owned()))
    );
    assert_eq!(
        task.apply(submit("other")),
        Err(Refused::UnknownStep("other".to_owned()))
    );
}

#[test]
fn an_open_step_is_cleared_when_the_task_ends_badly() {
    let mut task = task();
    task.apply(step("a")).unwrap();
    let events = task.apply(Change::Failed).unwrap();
    assert_eq!(
        events,
        [TaskEvent::Status, TaskEvent::Steps, TaskEvent::Details]
    );
    assert!(task.steps[0].cleared);
}

#[test]
fn step_ids_stand_once_and_in_urls() {
    let mut task = task();
    task.apply(step("a")).unwrap();
    task.apply(Change::Succeeded { data: None }).unwrap();
    task.apply(submit("a")).unwrap();
    for id in ["a", "", "a/b", "ü", ".."] {
        assert_eq!(task.apply(step(id)), Err(Refused::StepId(id.to_owned())));
    }
}

#[test]
fn what_a_lost_run_added_is_there_once_when_the_next_one_adds_it_again() {
    let mut task = task();
    let link = Link {
        kind: "report".to_owned(),
        href: "http://host/".to_owned(),
    };
    for _ in 0..2 {
        task.apply(Change::Started).unwrap();
        task.apply(step("a")).unwrap();
        task.apply(Change::LinkAdded(link.clone())).unwrap();
        task.apply(Change::Lost).unwrap();
    }
    assert_eq!(
        (task.steps.len(), task.links.len(), task.run, task.attempts),
        (1, 1, 3, 2)
    );
}

#[test]
fn a_run_that_is_handed_back_has_another_number_and_counts_as_nothing() {
    let mut task = task();
    let (run, attempts) = (task.run, task.attempts);
    task.apply(Change::Started).unwrap();
    task.apply(Change::HandedBack).unwrap();
    assert_eq!(
        (task.state, task.run, task.attempts),
        (TaskState::Queued, run + 1, attempts)
    );
    task.apply(Change::Failed).unwrap();
    task.apply(Change::HandedBack).unwrap_err();
}

#[test]
fn a_task_that_failed_begins_again_where_it_failed() {
    let mut task = task();
    assert_eq!(
        task.apply(Change::Retried),
        Err(Refused::State(TaskState::Queued))
    );
    task.apply(step("a")).unwrap();
    task.apply(Change::Failed).unwrap();
    task.apply(Change::Retried).unwrap();
    assert_eq!((task.state, task.run), (TaskState::Queued, 2));
    task.apply(step("a")).unwrap();
    task.apply(Change::Succeeded {
        data: Some(json!(1)),
    })
    .unwrap();
    task.apply(submit("a")).unwrap();
    task.apply(step("b")).unwrap();
    task.apply(Change::RetryAt(77)).unwrap();
    assert_eq!((task.failures, task.dispatch.run_at), (1, Some(77)));
    task.apply(step("b")).unwrap();
    task.apply(Change::Failed).unwrap();
    task.apply(Change::Retried).unwrap();
    let ids: Vec<_> = task.steps.iter().map(|step| &step.step_id).collect();
    assert_eq!(ids, ["a"], "what its run added is forgotten");
    assert_eq!(task.step.as_ref().unwrap().step_id, "a");
    assert_eq!((task.data.clone(), task.failures), (json!(1), 0));
    task.apply(step("b")).unwrap();
}

#[test]
fn the_steps_of_a_called_task_are_shown_but_not_waited_for() {
    let mut caller = task();
    caller.apply(Change::Started).unwrap();
    let mut shown = Step {
        step_id: "10-a".to_owned(),
        step: "a".to_owned(),
        href: "http://host/x".to_owned(),
        ui_href: "http://host/y".to_owned(),
        cleared: false,
        values: Map::new(),
        is_called: false,
    };
    for (cleared, events) in [(false, 1), (false, 0), (true, 1), (false, 0)] {
        shown.cleared = cleared;
        assert_eq!(
            caller
                .apply(Change::StepShown(shown.clone()))
                .unwrap()
                .len(),
            events
        );
    }
    assert_eq!(caller.steps.len(), 1);
    shown.step_id = "11-a".to_owned();
    caller.apply(Change::StepShown(shown)).unwrap();
    caller.apply(Change::Succeeded { data: None }).unwrap();
    assert_eq!(caller.state, TaskState::Succeeded);
    assert_eq!(
        caller.apply(submit("11-a")),
        Err(Refused::UnknownStep("11-a".to_owned()))
    );
}

#[test]
fn labels_are_short_and_stand_once() {
    let labels = |labels: &[&str]| check_labels(labels.iter().map(|l| (*l).to_owned()).collect());
    assert_eq!(labels(&["a", "b", "a"]).unwrap(), ["a", "b"]);
    for wrong in ["", "a\nb", &"x".repeat(101)] {
        assert!(labels(&[wrong]).is_err(), "{wrong:?}");
    }
    assert!(check_labels((0..21).map(|n| n.to_string()).collect()).is_err());
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Started),
        Just(Change::Progressed(Progress {
            value: 1.0,
            start: 0.0,
            target: 2.0,
            unit: "n".to_owned()
        })),
        "[a-c]".prop_map(|id| step(&id)),
        "[a-c]".prop_map(|id| submit(&id)),
        Just(Change::Succeeded { data: None }),
        Just(Change::Failed),
        Just(Change::Cancelled),
        Just(Change::Lost),
        Just(Change::HandedBack),
        Just(Change::RetryAt(5)),
        Just(Change::Retried),
    ]
}

proptest! {
    #[test]
    fn steps_only_grow_ends_are_final_and_runs_only_count_up(
        changes in prop::collection::vec(change(), 0..40)
    ) {
        let mut task = task();
        for change in changes {
            let before = task.clone();
            let is_retried = change == Change::Retried;
            let outcome = task.apply(change);
            if outcome.is_err() || before.state.is_finished() && !is_retried {
                prop_assert_eq!(&task, &before, "refused changes change nothing");
            }
            prop_assert!(task.run >= before.run);
            if is_retried {
                continue;
            }
            prop_assert!(task.steps.len() >= before.steps.len());
            for (old, new) in before.steps.iter().zip(&task.steps) {
                prop_assert_eq!((&old.step_id, &old.href), (&new.step_id, &new.href));
                prop_assert!(new.cleared || !old.cleared, "cleared never goes back");
            }
            if task.state.is_finished() {
                prop_assert!(task.steps.iter().all(|step| step.cleared));
            }
            prop_assert_eq!(task.state == TaskState::Waiting && task.steps.iter().all(|s| s.cleared), false);
        }
    }
}
