//! The webhooks of the multi-step task.

use runner_tests::diff::Difference;
use runner_tests::hook::Recorded;
use runner_tests::{HookServer, Runner};

use super::deviations::Deviation;
use super::recording;
use super::replay::Replay;
use crate::shared::{Held, MULTI_STEP};

/// A pause of the recording between two phases, in seconds.
const PAUSE: f64 = 1.0;

/// Subscribes to the multi-step task as the recording did, and hears what is sent.
pub(super) struct MultiStep {
    server: HookServer,
    /// Keeps the task from running until it has subscribers.
    held: Option<Held>,
    task: Option<u64>,
    phases: Vec<Vec<String>>,
}

impl MultiStep {
    pub(super) fn new() -> Self {
        Self {
            server: HookServer::start(),
            held: None,
            task: None,
            phases: Vec::new(),
        }
    }

    pub(super) fn before(&mut self, number: &str, runner: &Runner) {
        if number == "182" {
            self.held = Some(Held::start(runner));
        }
    }

    pub(super) fn after(&mut self, number: &str, runner: &Runner, replay: &Replay<'_>) {
        match number {
            "182" => self.task = replay.last(),
            "183" => {
                let task = self.task.expect("the multi-step task was accepted");
                for event in [None, Some("status"), Some("steps"), Some("details")] {
                    let href = self.server.url(&format!("/ms-{}", event.unwrap_or("None")));
                    runner.subscribe(task, &href, event).expect(200);
                }
                self.held = None;
            }
            "188" => self.hear(runner),
            "196" => self.hear(runner),
            _ => {}
        }
    }

    /// Takes as many calls as the recording has in this phase.
    fn hear(&mut self, runner: &Runner) {
        let count = recorded_phases()[self.phases.len()].len();
        let calls = self.server.take(count);
        let source = format!("{}/tasks/{}/", runner.base(), self.task.unwrap_or_default());
        for call in &calls {
            assert_eq!(call.method, "POST");
            assert_eq!(call.query("source").as_ref(), Some(&source));
            assert_eq!(call.body, b"");
        }
        self.phases.push(sorted(calls.iter().map(summary)));
    }

    /// Posts the step again, as the recording did, and compares all phases.
    pub(super) fn compare(mut self, runner: &Runner) -> Vec<Deviation> {
        let task = self.task.expect("the multi-step task was accepted");
        let again = format!("/plugins/{MULTI_STEP}/{task}/demo-step-process/");
        let before = runner.task(task);
        runner
            .post_form(&again, &[("inputStr", "third")])
            .expect(409);
        assert_eq!(runner.task(task), before);
        self.server.expect_no_more();
        self.phases.push(Vec::new());

        let recorded = recorded_phases();
        assert_eq!(recorded.len(), self.phases.len());
        let mut found = Vec::new();
        for (i, (theirs, ours)) in recorded.iter().zip(&self.phases).enumerate() {
            if theirs != ours {
                let list = |phase: &[String]| (!phase.is_empty()).then(|| phase.join(", "));
                let (a, b) = (list(theirs), list(ours));
                let place = format!("phase {}", i + 1);
                found.push(Deviation {
                    transcript: "webhooks".to_owned(),
                    difference: Difference::new(&place, a.as_deref(), b.as_deref()),
                });
            }
        }
        found
    }
}

/// The recorded calls, sorted in each phase: a phase ends at a mark or before a pause.
fn recorded_phases() -> Vec<Vec<String>> {
    let recording = recording("webhooks-multi-step.json");
    let mut phases: Vec<Vec<String>> = vec![Vec::new()];
    let mut last = None;
    for call in recording["calls"].as_array().into_iter().flatten() {
        if call.get("marker").is_some() {
            phases.push(Vec::new());
            last = None;
            continue;
        }
        let time = call["t"].as_f64().unwrap_or_default();
        if last.is_some_and(|last| time - last > PAUSE) {
            phases.push(Vec::new());
        }
        last = Some(time);
        let call = Recorded {
            method: String::new(),
            target: call["path"].as_str().unwrap_or_default().to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        };
        phases
            .last_mut()
            .expect("there is a first phase")
            .push(summary(&call));
    }
    phases
        .into_iter()
        .map(|phase| sorted(phase.into_iter()))
        .collect()
}

fn summary(call: &Recorded) -> String {
    format!(
        "{} {}",
        call.path(),
        call.query("event").unwrap_or_default()
    )
}

fn sorted(calls: impl Iterator<Item = String>) -> Vec<String> {
    let mut calls: Vec<_> = calls.collect();
    calls.sort();
    calls
}
