//! Networks that are cut or stalled between any two of worker, server, Redis and database.

use std::time::Duration;

use runner_tests::services::Cut;
use runner_tests::{Runner, Worker};

use crate::audit;
use crate::load::Load;
use crate::site::{LEASE, Site};

/// So long that others take over what was cut off.
const OUTAGE: Duration = Duration::from_secs(LEASE + 1);

/// Hundreds of tasks while a network is cut, then stalled, each time for longer than a lease.
fn survive(site: &Site, cut: &Cut, server: Runner, workers: Vec<Worker>) {
    let load = Load::default();
    load.submit(&server, 100);
    load.wait_for_ended(&server, 10);
    for outage in [Cut::cut, Cut::stall] {
        load.submit_during(&server, || {
            outage(cut);
            // Not for luck: the lease has to pass.
            std::thread::sleep(OUTAGE);
            cut.heal();
        });
    }
    load.settle(&server);
    audit::load(site, &server, &load);
    audit::end(server, workers);
    audit::strays_of_killed(site, 0);
}

#[test]
fn a_worker_is_cut_off_from_redis() {
    let site = Site::postgres();
    let cut = Cut::new(site.redis.port());
    let (server, other) = (site.server(), site.worker());
    let worker = site.with_redis_via(&cut).start_worker();
    survive(&site, &cut, server, vec![other, worker]);
}

#[test]
fn a_worker_is_cut_off_from_postgres() {
    let site = Site::postgres();
    let cut = Cut::new(site.database.port());
    let (server, other) = (site.server(), site.worker());
    let worker = site.with_database_via(&cut).start_worker();
    survive(&site, &cut, server, vec![other, worker]);
}

#[test]
fn a_worker_is_cut_off_from_mariadb() {
    let site = Site::mariadb();
    let cut = Cut::new(site.database.port());
    let (server, other) = (site.server(), site.worker());
    let worker = site.with_database_via(&cut).start_worker();
    survive(&site, &cut, server, vec![other, worker]);
}

#[test]
fn a_server_is_cut_off_from_redis() {
    let site = Site::postgres();
    let cut = Cut::new(site.redis.port());
    let server = site.with_redis_via(&cut).server().start();
    let worker = site.worker();
    survive(&site, &cut, server, vec![worker]);
}

#[test]
fn a_server_is_cut_off_from_postgres() {
    let site = Site::postgres();
    let cut = Cut::new(site.database.port());
    let server = site.with_database_via(&cut).server().start();
    let worker = site.worker();
    survive(&site, &cut, server, vec![worker]);
}
