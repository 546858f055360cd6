//! Servers that are killed.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::audit;
use crate::load::Load;
use crate::site::{Site, on_all_databases};

on_all_databases!(a_server_is_killed_while_it_accepts_tasks);

fn a_server_is_killed_while_it_accepts_tasks(site: &Site) {
    let mut server = site.server();
    let worker = site.worker();
    let load = Load::default();
    for round in 1..=3 {
        let before = load.len();
        load.submit_during(&server, || {
            runner_tests::eventually("some tasks", Duration::from_secs(20), || {
                (load.len() >= before + 40 * round).then_some(())
            });
            server.signal(Signal::SIGKILL);
        });
        server.kill9();
        server.restart();
    }
    load.settle(&server);
    audit::load(site, &server, &load);
    // A task may have been made whose answer did not arrive. It ended, too.
    let rows = site
        .database
        .rows("SELECT id FROM tasks WHERE caller IS NULL");
    let known: BTreeSet<u64> = load.accepted().into_keys().collect();
    let others = rows.iter().filter_map(|row| row[0].parse::<u64>().ok());
    let others = others.filter(|task| !known.contains(task)).count();
    assert!(
        others <= 3 * 4 + load.callers(),
        "{others} tasks nobody asked for"
    );
    audit::strays_of_killed(site, 0);
    audit::end(server, vec![worker]);
}
