//! Workers with other plugins on one queue, and queues that share a Redis and a database.

use std::time::Duration;

use runner_tests::Runner;

use crate::audit;
use crate::load::PAUSE;
use crate::manifests::module;
use crate::site::{LEASE, Site};

/// The code of a plugin that puts out its name.
fn named(name: &str) -> String {
    format!(
        "from runner import plugin\n\n\n\
         @plugin(version=\"1.0.0\")\n\
         def {name}(task):\n    \
             task.output(\"name.txt\", \"{name}\", data_type=\"custom/name\", content_type=\"text/plain\")\n"
    )
}

#[test]
fn each_worker_runs_what_it_has_the_plugin_for() {
    let mut site = Site::postgres();
    let names = ["left", "right", "nobody"];
    let folders = names.map(|name| module(name, "", &named(name)));
    site.plugins = folders
        .iter()
        .map(|folder| folder.path().to_owned())
        .collect();
    let server = site.server();
    let of = |site: &mut Site, n: usize| {
        site.plugins = vec![folders[n].path().to_owned()];
        site.worker()
    };
    let (left, right) = (of(&mut site, 0), of(&mut site, 1));
    let pids = [left.pid(), right.pid()];
    let tasks: Vec<(u64, usize)> = (0..40)
        .map(|n| {
            (
                server.submit(&format!("{}@1-0-0", names[n % 2]), &[]),
                n % 2,
            )
        })
        .collect();
    let orphan = server.submit("nobody@1-0-0", &[]);
    for (task, name) in tasks {
        let ended = server.successful(server.finished(task));
        assert_eq!(server.only_output(&ended).2, names[name].as_bytes());
        let sql = format!(
            "SELECT workers.pid FROM workers JOIN tasks ON tasks.holder = workers.id WHERE tasks.id = {task}"
        );
        assert_eq!(site.database.number(&sql), i64::from(pids[name]));
    }
    let log = server.failed(&server.finished(orphan));
    assert!(
        log.contains("nobody@1-0-0") && log.contains(&site.queue),
        "{log}"
    );
    audit::queue_is_empty(&site);
    audit::end(server, vec![left, right]);
}

#[test]
fn a_task_whose_only_worker_died_fails_or_waits_for_another_with_its_plugin() {
    let mut site = Site::postgres();
    let all = site.plugins.clone();
    let folder = module("left", "", &named("left"));
    site.plugins.push(folder.path().to_owned());
    let server = site.server();
    let mut has_it = site.worker();
    site.plugins = all;
    let without = site.worker();
    has_it.halt();
    let task = server.submit("left@1-0-0", &[]);
    has_it.kill9();
    has_it.restart();
    server.successful(server.finished(task));
    audit::queue_is_empty(&site);
    audit::end(server, vec![has_it, without]);
}

#[test]
fn queues_on_one_redis_and_one_database_do_not_see_each_other() {
    let mut site = Site::postgres();
    let names = [site.queue.clone(), format!("{}-other", site.queue)];
    let submit = |server: &Runner| -> Vec<u64> {
        let form = [("marker", "x"), ("millis", "10")];
        (0..20).map(|_| server.submit(PAUSE, &form)).collect()
    };
    let one = site.server();
    let first = site.worker();
    site.queue.clone_from(&names[1]);
    let other = site.server();
    let (ours, theirs) = (submit(&one), submit(&other));
    for task in &ours {
        one.successful(one.finished(*task));
    }
    // Not for luck: nobody may take them over after their lease either.
    std::thread::sleep(Duration::from_secs(LEASE + 1));
    for task in &theirs {
        assert_eq!(other.task(*task)["state"], "queued");
    }
    let second = site.worker();
    for task in &theirs {
        other.successful(other.finished(*task));
    }
    let sql = "SELECT DISTINCT workers.pid, workers.queue, tasks.queue \
               FROM workers JOIN tasks ON tasks.holder = workers.id ORDER BY workers.queue";
    let expected = [
        [first.pid().to_string(), names[0].clone(), names[0].clone()],
        [second.pid().to_string(), names[1].clone(), names[1].clone()],
    ];
    assert_eq!(site.database.rows(sql), expected);
    audit::queue_is_empty(&site);
    audit::end(one, vec![first]);
    audit::end(other, vec![second]);
}
