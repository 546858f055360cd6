//! What all commands have in common.

use std::process::Stdio;

use crate::support::Desk;

#[test]
fn without_arguments_it_helps() {
    let desk = Desk::new();
    let said = desk.run([""; 0]).ok();
    for part in ["Usage: runner", "plugin", "doctor", "Try it:"] {
        assert!(said.out.contains(part), "{said:#?}");
    }
    assert!(
        !said.out.contains('\u{1b}'),
        "colours for no terminal: {said:#?}"
    );
    let said = desk.run(["--version"]).ok();
    assert!(said.out.starts_with("runner "), "{said:#?}");
}

#[test]
fn every_command_has_help() {
    let desk = Desk::new();
    for command in [
        "up",
        "plugin list",
        "plugin show",
        "plugin run",
        "plugin new",
        "plugin check",
        "plugin sdk",
        "task list",
        "task show",
        "task wait",
        "task cancel",
        "task delete",
        "config",
        "doctor",
        "openapi",
        "licenses",
        "completions",
    ] {
        let said = desk.run(command.split(' ').chain(["--help"])).ok();
        assert!(
            said.out.contains(&format!("Usage: runner {command}")),
            "{said:#?}"
        );
    }
}

#[test]
fn what_is_typed_wrongly_is_named() {
    let desk = Desk::new();
    for (arguments, part) in [
        ("nonsense", "unrecognized subcommand 'nonsense'"),
        ("plugin", "Usage: runner plugin"),
        ("plugin lisst", "'list'"),
        ("plugin run", "NAME_OR_PATH"),
        (
            "plugin new x --lang cobol",
            "[possible values: python, rust, c, lua, wasm, exec]",
        ),
        ("task show x", "invalid value 'x'"),
        ("task show 0", "0 is not in"),
        ("task list --state x", "[possible values: queued"),
        ("task list --limit 0", "0 is not in"),
        ("task wait 1 --timeout x", "expected a number of seconds"),
        ("task wait 1 --timeout -1", "-1"),
        ("task cancel", "<ID>"),
        ("completions cobol", "[possible values: bash"),
    ] {
        desk.run(arguments.split(' ')).failed(2, part);
    }
}

#[test]
fn nobody_reading_is_no_error() {
    let desk = Desk::new();
    for arguments in ["licenses", "completions bash", "config", "licenses --json"] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = desk
            .command(arguments.split(' '))
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments}");
        assert!(output.status.success(), "{arguments}");
    }
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let desk = Desk::new();
    let said = |name: &str, value: &str| {
        let output = desk.command(["config"]).env(name, value).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(!said("X", "").contains('\u{1b}'));
    assert!(said("CLICOLOR_FORCE", "1").contains('\u{1b}'));
    let forced = desk
        .command(["config"])
        .env("CLICOLOR_FORCE", "1")
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    assert!(!forced.stdout.contains(&0x1b));
}

#[test]
fn completions_know_the_commands() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = desk.run(["completions", shell]).ok();
        assert!(
            said.out.contains("doctor") && said.out.contains("openapi"),
            "{shell}"
        );
    }
}

#[test]
fn config_is_a_document_too() {
    let desk = Desk::new();
    desk.write("runner.toml", "port = 7\nnonsense = 1\n");
    let said = desk.run(["config", "--json"]).ok();
    let document = said.json();
    let settings = document["settings"].as_array().unwrap();
    let port = settings
        .iter()
        .find(|setting| setting["name"] == "RUNNER_PORT")
        .unwrap();
    assert_eq!(
        (port["value"].as_str(), port["origin"].as_str()),
        (Some("7"), Some("port in runner.toml"))
    );
    assert_eq!(
        document["notices"][0],
        "nonsense in runner.toml is no setting"
    );
    desk.write("runner.toml", "port = 70000\n");
    let said = desk
        .run(["config", "--json"])
        .failed(1, "RUNNER_PORT is \"70000\"");
    assert!(said.json()["settings"].is_array());
    desk.run(["config"]).failed(1, "RUNNER_PORT is \"70000\"");
}

#[test]
fn openapi_and_licenses_need_no_server() {
    let desk = Desk::new();
    desk.write("plugins/shout.py", crate::support::PLUGIN);
    desk.write("plugins/broken.py", "import nothing_of_this_name\n");
    let said = desk
        .run(["openapi", "--base-url", "http://example.org/x/"])
        .ok();
    assert_eq!(said.json()["servers"][0]["url"], "http://example.org/x");
    assert!(
        said.err.contains("left out: the module broken"),
        "{said:#?}"
    );
    let said = desk.run(["licenses", "--json"]).ok();
    let document = said.json();
    let components = document["components"].as_array().unwrap();
    assert!(
        components
            .iter()
            .any(|one| one["name"] == "tokio" && one["license"] == "MIT")
    );
    assert!(desk.run(["licenses"]).ok().out.contains("tokio"));
    assert!(desk.leftovers().is_empty());
}
