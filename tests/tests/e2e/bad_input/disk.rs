//! A disk that is full: a small tmpfs under the instance folder.

use std::fs;

use runner_tests::Runner;
use runner_tests::disk::Disk;

use crate::shared::HARNESS;

/// Bytes that the disk has.
const SIZE: u64 = 96 << 20;
/// Bytes below which nothing new is accepted.
const FLOOR: u64 = 4_000_000;

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    let Some(disk) = Disk::mount(SIZE) else {
        return;
    };
    let mut runner = Runner::builder()
        .plugins([HARNESS, "tests/fixtures/bad"])
        .env("DESCRIBE_TIMEOUT", 5)
        .env("DISK_FLOOR", FLOOR)
        .instance(disk.path().join("instance"))
        .start();
    let pace = [("marker", "before"), ("pieces", "10"), ("pause", "0")];
    let before = runner.run_well("pace@1-0-0", &pace);
    let number = before["links"][0]["href"]
        .as_str()
        .and_then(runner_tests::api::task_number);
    let number = number.expect("the first link leads to the task");

    // A plugin that fills it fails alone.
    let log = runner.run_badly("bad-fill-disk@1-0-0", &[("megabytes", "256")]);
    // Its folder may lie in memory; then the disk is full when the output is kept.
    let is_told = log.contains("space") || log.contains("the disk is full");
    assert!(is_told, "{log}");
    let after = runner.run_well(
        "pace@1-0-0",
        &[("marker", "after"), ("pieces", "10"), ("pause", "0")],
    );
    assert!(runner.output(&after, "pace.txt").starts_with(b"after 0\n"));

    // Nothing new is accepted below the floor; what is there can be read.
    let filling = disk.fill();
    let answer = runner
        .post_form("/plugins/pace@1-0-0/process/", &pace)
        .expect(507);
    assert!(answer.json()["message"].is_string(), "{}", answer.text());
    assert_eq!(runner.task(number), before);
    runner.get("/plugins/").expect(200);

    // Nor does a crash on a full disk.
    runner.kill9();
    fs::remove_file(&filling).expect("cannot free the disk");
    runner.restart();
    assert_eq!(runner.task(number)["log"], before["log"]);
    assert!(
        runner
            .output(&runner.task(number), "pace.txt")
            .starts_with(b"before 0\n")
    );
    runner.run_well("pace@1-0-0", &pace);
    runner.kill9();
}
