//! Workers that the database or the file store is away from while something is decided, and what is remembered of
//! modules that were removed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use runner_tests::scratch::Scratch;
use runner_tests::services::Cut;
use runner_tests::wait::eventually;
use serde_json::{Value, json};

use super::{LONG, PLUGIN, change, followed, follows, has, list, write};
use crate::site::Site;

/// A plugin of the plugin folders, in the module `work`.
const STOPPED: &str = "pause@1-0-0";

fn who_is_cut_off_follows_when_the_network_is_back(site: &Site) {
    let folder = Scratch::new();
    let cut = Cut::new(site.database.port());
    let server = site.server();
    let worker = site.with_database_via(&cut).start_worker();
    let path = write(folder.path(), "first");
    let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
    loaded.expect(201);
    followed(&server, &worker);
    has(&server, &worker, PLUGIN, true);
    let mut marks = ["second", "third"].into_iter();
    for outage in [Cut::cut, Cut::stall] {
        outage(&cut);
        // Others do not take it for living any more.
        eventually("a worker that is gone", LONG, || {
            let others = list(&server)["others"].as_array()?.len();
            (others == 0).then_some(())
        });
        let mark = marks.next().unwrap_or_default();
        write(folder.path(), mark);
        change(&server, "POST", "/modules/wanted/reload");
        change(&server, "POST", "/modules/work/stop");
        assert_eq!(follows(&server, &worker), None);
        cut.heal();
        assert_eq!(followed(&server, &worker)["failing"], json!({}));
        has(&server, &worker, STOPPED, false);
        has(&server, &worker, PLUGIN, true);
        assert_eq!(server.run_well(PLUGIN, &[])["log"], mark);
        change(&server, "POST", "/modules/work/start");
        has(&server, &worker, STOPPED, true);
    }
}

#[test]
fn who_is_cut_off_from_postgres_follows_when_the_network_is_back() {
    who_is_cut_off_follows_when_the_network_is_back(&Site::postgres());
}

#[test]
fn who_is_cut_off_from_mariadb_follows_when_the_network_is_back() {
    who_is_cut_off_follows_when_the_network_is_back(&Site::mariadb());
}

#[test]
fn who_is_cut_off_from_redis_is_told_nothing_and_follows_all_the_same() {
    let site = Site::postgres();
    let folder = Scratch::new();
    let cut = Cut::new(site.redis.port());
    let server = site.server();
    let worker = site.with_redis_via(&cut).start_worker();
    cut.cut();
    let path = write(folder.path(), "first");
    let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
    loaded.expect(201);
    followed(&server, &worker);
    has(&server, &worker, PLUGIN, true);
    cut.heal();
    assert_eq!(server.run_well(PLUGIN, &[])["log"], "first");
}

/// Lets a link lead somewhere else, in one step.
fn lead(link: &Path, to: &Path) {
    let draft = link.with_extension("new");
    symlink(to, &draft).expect("a link is made");
    fs::rename(&draft, link).expect("it takes its place");
}

#[test]
fn who_has_no_file_store_follows_when_it_is_back() {
    let site = Site::postgres();
    let (folder, root) = (Scratch::new(), Scratch::new());
    let server = site.server();
    // As a volume of the network is mounted, and not mounted.
    let (mount, nothing) = (root.path().join("mount"), root.path().join("nothing"));
    fs::create_dir(&nothing).expect("a folder is made");
    lead(&mount, site.files());
    let process = site.process();
    let process = process.env("FILE_STORE_ROOT_PATH", mount.display());
    let worker = process.start_worker();
    followed(&server, &worker);
    lead(&mount, &nothing);
    let path = write(folder.path(), "first");
    let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
    loaded.expect(201);
    let reason = eventually("a reason", LONG, || {
        let own = follows(&server, &worker)?;
        own["failing"]["wanted"].as_str().map(str::to_owned)
    });
    assert!(reason.contains("file store"), "{reason}");
    has(&server, &worker, STOPPED, true);
    lead(&mount, site.files());
    has(&server, &worker, PLUGIN, true);
    assert_eq!(followed(&server, &worker)["failing"], json!({}));
    assert_eq!(server.run_well(PLUGIN, &[])["log"], "first");
}

#[test]
fn many_modules_are_fetched_by_who_comes_late() {
    const COUNT: usize = 12;
    let site = Site::postgres();
    let folder = Scratch::new();
    let server = site.server();
    let names: Vec<String> = (0..COUNT).map(|number| format!("many-{number}")).collect();
    for name in &names {
        let text = format!(
            "return {{ name = '{name}', version = '1.0.0', run = function() return '{name}' end }}\n"
        );
        let path = folder.file(&format!("{name}.lua"), text);
        let loaded = server.ask("POST", "/modules/", Some(&json!({"target": path})));
        loaded.expect(201);
    }
    let worker = site.worker();
    assert_eq!(followed(&server, &worker)["failing"], json!({}));
    for name in &names {
        has(&server, &worker, &format!("{name}@1-0-0"), true);
    }
    let task = server.run_well("many-7@1-0-0", &[]);
    assert_eq!(task["log"], "many-7");
}

fn removed(list: &Value) -> Vec<String> {
    serde_json::from_value(list["removed"].clone()).unwrap_or_default()
}

#[test]
fn that_a_module_was_removed_is_remembered_as_long_as_it_lies_there() {
    let site = Site::postgres();
    let folder = Scratch::new();
    let path = folder.file(
        "passing.lua",
        "return { name = 'passing', version = '1.0.0', run = function() return '' end }\n",
    );
    let mut server = site.process().plugins([folder.path()]).server().start();
    change(&server, "DELETE", "/modules/passing/");
    change(&server, "DELETE", "/modules/work/");
    fs::remove_file(path).expect("the file is removed");
    server.kill9();
    let long_ago = 100_u64 * 24 * 3_600 * 1_000;
    let age = || {
        let sql = format!("UPDATE modules SET changed_at = changed_at - {long_ago}");
        site.database.rows(&sql);
    };
    age();
    // It has `work` in its plugin folder, and says so.
    server.restart();
    eventually("a word about it", LONG, || {
        let sql = "SELECT count(*) FROM modules WHERE name = 'work' AND changed_at > \
                   (SELECT changed_at FROM modules WHERE name = 'passing') + 1000000000";
        (site.database.number(sql) == 1).then_some(())
    });
    let done = server.ask("POST", "/retention/run", None).expect(200);
    assert_eq!(done.json()["errors"], json!([]));
    eventually("what is remembered", LONG, || {
        (removed(&list(&server)) == ["work"]).then_some(())
    });
    server.kill9();
    server.restart();
    assert_eq!(removed(&list(&server)), ["work"]);
    let modules = server.modules();
    assert!(!modules.iter().any(|module| module["name"] == "work"));
}
