//! A file store whose disk is full.

use std::fs;

use runner_tests::Request;
use runner_tests::disk::Disk;

use crate::audit;
use crate::load::{HELLO, Load};
use crate::site::Site;

/// Bytes that the disk has.
const SIZE: u64 = 8 << 20;

#[test]
fn a_full_store_harms_no_task_but_those_that_need_it_and_goes_on_when_there_is_room() {
    let Some(disk) = Disk::mount(SIZE) else {
        return;
    };
    let files = disk.path().join("files");
    let site = Site::postgres().with_files(&files);
    let server = site.server();
    let worker = site.worker();
    let load = Load::default();
    load.submit(&server, 40);
    load.settle(&server);
    audit::load(&site, &server, &load);
    let filling = disk.fill();
    // More than is left: it says that the disk is full, and leaves nothing of it there.
    let large = server.submit("large@1-0-0", &[("megabytes", "2")]);
    let log = server.failed(&server.finished(large));
    assert!(log.contains("disk") || log.contains("space"), "{log}");
    let request = Request::post(&format!("/plugins/{HELLO}/process/"));
    let answer = server.send(&request.form(&[("inputStr", "x")]));
    match answer.status {
        303 => {
            // Its short text needs no room there.
            let task = server.finished(server.accepted(&answer));
            assert_eq!(task["status"], "SUCCESS", "{task}");
        }
        status => assert_eq!(status, 507, "{}", answer.text()),
    }
    audit::strays_of_killed(&site, 0);
    fs::remove_file(filling).expect("it is there");
    load.submit(&server, 40);
    load.settle(&server);
    audit::load(&site, &server, &load);
    audit::strays_of_killed(&site, 0);
    audit::end(server, vec![worker]);
}

#[test]
fn a_disk_below_its_floor_refuses_tasks_at_the_server_and_ends_those_that_run() {
    let Some(disk) = Disk::mount(SIZE) else {
        return;
    };
    let files = disk.path().join("files");
    let site = Site::postgres().with_files(&files);
    let server = site.process().env("DISK_FLOOR", 2_000_000).server().start();
    let worker = site.worker();
    let load = Load::default();
    load.submit(&server, 20);
    let filling = disk.fill();
    let refused = server.post_form(&format!("/plugins/{HELLO}/process/"), &[("inputStr", "x")]);
    refused.expect(507);
    fs::remove_file(filling).expect("it is there");
    load.submit(&server, 20);
    load.settle(&server);
    // Those that ended while the disk was full failed, and said why.
    let mut failed = 0;
    for task in load.accepted().into_keys() {
        let ended = server.finished(task);
        if ended["status"] == "FAILURE" {
            let log = server.failed(&ended);
            assert!(log.contains("disk") || log.contains("space"), "{log}");
            failed += 1;
        }
    }
    assert!(failed <= 20, "{failed} failed");
    audit::nothing_is_stuck(&site);
    audit::queue_is_empty(&site);
    audit::strays_of_killed(&site, 0);
    audit::end(server, vec![worker]);
}
