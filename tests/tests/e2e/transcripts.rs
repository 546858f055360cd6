//! The recorded requests and responses of the reference, sent to the built binary.

mod deviations;
mod ids;
mod replay;
mod webhooks;

use std::collections::BTreeSet;
use std::fs;

use runner_tests::{Runner, repository};
use serde_json::Value;

use self::deviations::Deviation;
use self::replay::Replay;
use self::webhooks::MultiStep;
use crate::shared::HARNESS;

const FOLDER: &str = "tests/transcripts";

/// A recorded request with its response, or the recorded webhooks.
fn recording(name: &str) -> Value {
    let path = repository(FOLDER).join(name);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The names of all transcripts, in the order of the recording.
fn transcripts() -> Vec<String> {
    let files = fs::read_dir(repository(FOLDER)).expect("the transcripts lie in the repository");
    let names = files
        .flatten()
        .filter_map(|file| file.file_name().into_string().ok());
    let numbered = |name: &String| name.starts_with(|c: char| c.is_ascii_digit());
    let mut names: Vec<String> = names.filter(numbered).collect();
    names.sort();
    names
}

#[test]
fn the_answers_are_the_recorded_ones_but_for_the_listed_deviations() {
    let runner = Runner::builder()
        .plugins([
            "stable_plugins/demo",
            "stable_plugins/data_preparation",
            "stable_plugins/file_utils",
            "tests/fixtures/plugins",
            HARNESS,
        ])
        // A host with a dot is refused unless it is known.
        .env("SERVER_NAME", "example.org:1234")
        // So that a task can be kept from running.
        .env("CONCURRENCY", 1)
        .start();
    let mut replay = Replay::new(&runner);
    let mut webhooks = MultiStep::new();
    for name in transcripts() {
        let number = &name[..3];
        webhooks.before(number, &runner);
        replay.play(number, &recording(&name));
        webhooks.after(number, &runner, &replay);
    }
    let mut seen = replay.seen;
    seen.extend(webhooks.compare(&runner));

    let listed = deviations::listed();
    let unlisted = text(seen.difference(&listed));
    let missing = text(listed.difference(&seen));
    if !unlisted.is_empty() || !missing.is_empty() {
        runner.fail(&format!(
            "differences that DEVIATIONS.md does not list:\n{unlisted}\n\
             deviations listed there that do not occur:\n{missing}"
        ));
    }
}

fn text<'a>(deviations: impl Iterator<Item = &'a Deviation>) -> String {
    deviations.map(|one| format!("  {one}\n")).collect()
}

#[test]
fn every_listed_deviation_names_a_transcript() {
    let names: BTreeSet<String> = transcripts()
        .iter()
        .map(|name| name[..3].to_owned())
        .collect();
    for deviation in deviations::listed() {
        let known = names.contains(&deviation.transcript) || deviation.transcript == "webhooks";
        assert!(known, "no transcript for: {deviation}");
    }
}
