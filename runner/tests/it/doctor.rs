//! `runner doctor`.

use serde_json::Value;

use crate::support::{Desk, PLUGIN, Said};

fn levels<'a>(document: &'a Value, what: &str) -> Vec<&'a str> {
    let findings = document["findings"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["what"] == what);
    of.map(|finding| finding["level"].as_str().unwrap())
        .collect()
}

#[test]
fn all_is_well_or_what_to_do_is_said() {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    let run = |variables: &[(&str, &str)]| -> Said {
        let variables = variables
            .iter()
            .copied()
            .chain([("RUNNER_PORT", "0"), ("DISK_FLOOR", "1")]);
        desk.command(["doctor", "--json"])
            .envs(variables)
            .output()
            .unwrap()
            .into()
    };
    let said = run(&[]).ok();
    let document = said.json();
    assert_eq!(document["ok"], true);
    for what in [
        "settings",
        "Python",
        "instance folder",
        "disk space",
        "port",
        "plugin folders",
        "module",
    ] {
        assert_eq!(levels(&document, what), ["ok"], "{what}: {said:#?}");
    }
    assert_eq!(document["modules"][0]["state"], "RUNNING");
    assert!(!desk.path("instance").exists());

    desk.write("plugins/broken.py", "import nothing_of_this_name\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let variables = [
        ("PYTHON", "/nothing/python"),
        ("RUNNER_INSTANCE_FOLDER", "/proc/instance"),
        ("RESULT_BACKEND", "redis://x"),
        ("CC", "/nothing/cc"),
    ];
    let said = run(&variables);
    assert_eq!(said.code, 1, "{said:#?}");
    let document = said.json();
    assert_eq!(document["ok"], false);
    assert_eq!(levels(&document, "settings"), ["ok", "warning"]);
    assert_eq!(levels(&document, "C compiler"), ["warning"]);
    for what in ["Python", "instance folder"] {
        assert_eq!(levels(&document, what), ["problem"], "{what}: {said:#?}");
    }
    assert_eq!(levels(&document, "module"), ["problem", "problem"]);
    let said: Said = desk
        .command(["doctor", "--plugin-folders", "plugins:nothing"])
        .envs([
            ("RUNNER_PORT", port.as_str()),
            ("DISK_FLOOR", "18446744073709551615"),
        ])
        .output()
        .unwrap()
        .into();
    assert_eq!(said.code, 1);
    for part in [
        "choose another --port",
        "make room",
        "nothing cannot be read",
        "nothing_of_this_name",
        "runner plugin check",
    ] {
        assert!(said.out.contains(part), "{part} is not in {said:#?}");
    }
    let said: Said = desk
        .command(["doctor"])
        .env("RUN_TIMEOUT", "x")
        .output()
        .unwrap()
        .into();
    assert!(
        said.code == 1 && said.out.contains("RUN_TIMEOUT is \"x\""),
        "{said:#?}"
    );
    assert!(desk.leftovers().is_empty());
}

#[test]
fn a_runner_that_works_is_no_problem() {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    let server = desk.up();
    let port = server.url.rsplit(':').next().unwrap().to_owned();
    let said: Said = desk
        .command(["doctor"])
        .envs([("RUNNER_PORT", port.as_str()), ("DISK_FLOOR", "1")])
        .output()
        .unwrap()
        .into();
    let said = said.ok();
    assert!(
        said.out.contains("is in use by a runner (process "),
        "{said:#?}"
    );
    assert!(
        said.out
            .contains("is used by the runner of this instance folder"),
        "{said:#?}"
    );
}
