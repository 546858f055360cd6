//! `runner plugin list`, `show`, `run` and `check`.

use serde_json::json;

use crate::support::{Desk, PLUGIN, Said};

fn desk() -> Desk {
    let desk = Desk::new();
    desk.write("plugins/things.py", PLUGIN);
    desk
}

#[test]
fn list_shows_plugins_and_what_could_not_be_loaded() {
    let desk = desk();
    desk.write("plugins/broken.py", "import nothing_of_this_name\n");
    let said = desk.run(["plugin", "list"]).ok();
    assert!(
        said.out.contains("shout") && said.out.contains("1.0.0"),
        "{said:#?}"
    );
    assert!(
        said.out.contains("NOT LOADED") && said.out.contains("nothing_of_this_name"),
        "{said:#?}"
    );
    let document = desk.run(["plugin", "list", "--json"]).ok().json();
    let plugin = &document["plugins"][5];
    assert_eq!(plugin["identifier"], "sleep@1-0-0");
    assert_eq!(document["plugins"][4]["tags"], json!(["test"]));
    assert_eq!(document["modules"][0]["state"], "EXITED");
    assert!(desk.leftovers().is_empty());
    std::fs::remove_dir_all(desk.path("plugins")).unwrap();
    let said = desk.run(["plugin", "list"]).ok();
    assert!(
        said.err.contains("there is no plugin folder here"),
        "{said:#?}"
    );
    let document = desk.run(["plugin", "list", "--json"]).ok().json();
    assert_eq!(document["plugins"], json!([]));
}

#[test]
fn list_and_show_can_ask_a_server() {
    let desk = desk();
    let server = desk.up();
    let document = desk
        .run(["plugin", "list", "--json", "--url", &server.url])
        .ok()
        .json();
    assert_eq!(
        document["plugins"][4]["apiRoot"],
        format!("{}/plugins/shout@1-0-0/", server.url)
    );
    let said = desk
        .command(["plugin", "list"])
        .env("RUNNER_URL", &server.url)
        .output()
        .unwrap();
    assert!(Said::from(said).ok().out.contains("shout"));
    let document = desk
        .run(["plugin", "show", "shout", "--url", &server.url])
        .ok()
        .json();
    assert_eq!(
        document["entryPoint"]["href"],
        "/plugins/shout@1-0-0/process/"
    );
    // The folders can be looked at while a server works with them.
    assert!(
        desk.run(["plugin", "show", "shout"])
            .ok()
            .out
            .contains("required")
    );
}

#[test]
fn show_has_all_that_is_needed_to_run_it() {
    let desk = desk();
    let said = desk.run(["plugin", "show", "shout"]).ok();
    for part in [
        "shout@1.0.0",
        "text",
        "required",
        "default 1",
        "text/loud",
        "runner plugin run shout -p text=hi",
    ] {
        assert!(said.out.contains(part), "{part} is not in {said:#?}");
    }
    let document = desk
        .run(["plugin", "show", "ask@1-0-0", "--json"])
        .ok()
        .json();
    assert_eq!(document["steps"][0]["step"], "greeting");
    assert_eq!(document["parameters"]["required"], json!(["name"]));
    desk.run(["plugin", "show", "nothing"])
        .failed(1, "`runner plugin list` shows all");
    desk.run(["plugin", "show", "./plugins/things.py"])
        .failed(1, "has 7 plugins; choose one with --plugin");
    desk.run(["plugin", "show", "./plugins/things.py", "--plugin", "ask"])
        .ok();
    desk.run(["plugin", "show", "./plugins/things.py", "--plugin", "x"])
        .failed(1, "it has: ask@1.0.0, chain@1.0.0");
}

#[test]
fn a_run_leaves_its_outputs_and_nothing_else() {
    let desk = desk();
    let said = desk
        .run([
            "plugin",
            "run",
            "shout",
            "-p",
            "text=hello",
            "-p",
            "times=2",
        ])
        .ok();
    assert_eq!(
        std::fs::read_to_string(desk.path("shout-output/out.txt")).unwrap(),
        "HELLOHELLO"
    );
    assert!(said.out.contains("shout-output/out.txt"), "{said:#?}");
    assert_eq!(said.err, "first line\ndone\nshout@1.0.0 succeeded\n");
    // Again: what stood there is replaced.
    let said = desk
        .run([
            "plugin",
            "run",
            "./plugins/things.py",
            "--plugin",
            "shout",
            "-p",
            "text=a",
            "-o",
            "shout-output",
            "--json",
        ])
        .ok();
    assert_eq!(
        std::fs::read_to_string(desk.path("shout-output/out.txt")).unwrap(),
        "A"
    );
    let document = said.json();
    assert_eq!(document["state"], "succeeded");
    assert_eq!(document["log"], "first line\ndone");
    assert_eq!(document["outputs"][0]["path"], "shout-output/out.txt");
    assert_eq!(document["outputs"][0]["dataType"], "text/loud");
    assert_eq!(document["outputs"][0]["size"], 1);
    assert_eq!(document["progress"]["target"], 2.0);
    assert!(desk.leftovers().is_empty());
    assert!(!desk.path("instance").exists());
}

#[test]
fn inputs_are_files_or_urls() {
    let desk = desk();
    let name = "a, b ü.txt";
    desk.write(name, "five!");
    let said = desk
        .run([
            "plugin",
            "run",
            "count",
            "--input",
            &format!("data={name}"),
            "-i",
            "more=plugins/things.py",
            "--json",
        ])
        .ok();
    let size = std::fs::metadata(desk.path("plugins/things.py"))
        .unwrap()
        .len();
    assert_eq!(said.json()["log"], format!("5 bytes and {size}"));
    assert_eq!(
        std::fs::read_to_string(desk.path("count-output/copy.txt")).unwrap(),
        "five!"
    );
    // Two outputs of one name.
    assert!(desk.path("count-output/copy-2.txt").is_file());
    let said = desk.run([
        "plugin",
        "run",
        "count",
        "-i",
        "data=data:text/plain,abc",
        "-i",
        "more=data:,x",
        "--json",
    ]);
    assert_eq!(said.ok().json()["log"], "3 bytes and 1");
    for (argument, part) in [
        ("data=missing.txt", "Cannot read missing.txt: No such file"),
        ("data=plugins", "plugins is not a regular file."),
        ("data=ftp://x/y", "data"),
        ("text=plugins/things.py", "Unknown field."),
    ] {
        desk.run(["plugin", "run", "count", "--input", argument])
            .failed(1, part);
    }
    // Only files that were named may be read.
    let secret = desk.write("secret.txt", "x");
    let url = format!("file://{}", secret.display());
    desk.run(["plugin", "run", "count", "-i", &format!("data={url}")])
        .ok();
    desk.run(["plugin", "run", "steal", "-p", &format!("path={url}")])
        .failed(1, "files may only be read below");
    desk.run(["plugin", "run", "shout", "--input", "text=a, b ü.txt"])
        .failed(1, "give its value with -p");
}

#[test]
fn wrong_values_are_named_by_field() {
    let desk = desk();
    let said = desk
        .run([
            "plugin", "run", "shout", "-p", "times=0", "-p", "x=1", "--json",
        ])
        .failed(1, "shout@1.0.0 does not take these values");
    for part in [
        "text (The text): Missing data for required field.",
        "times (Times): ",
        "x: Unknown field.",
        "-p text=TEXT",
    ] {
        assert!(said.err.contains(part), "{part} is not in {said:#?}");
    }
    let document = said.json();
    assert_eq!(document["state"], "invalid");
    assert_eq!(document["errors"]["x"], json!(["Unknown field."]));
    assert!(!desk.path("shout-output").exists());
    desk.run(["plugin", "run", "shout", "-p", "text"])
        .failed(1, "is no KEY=VALUE");
    desk.run(["plugin", "run", "shout", "--step", "x=1"])
        .failed(1, "--step needs the id of the step");
    desk.run(["plugin", "run", "nothing"])
        .failed(1, "there is no plugin \"nothing\"");
    desk.run(["plugin", "run", "./nothing"])
        .failed(1, "cannot read ./nothing");
}

#[test]
fn a_plugin_that_fails_says_why() {
    let desk = desk();
    let said = desk.run(["plugin", "run", "fail"]).failed(1, "on purpose");
    assert!(said.err.ends_with("fail@1.0.0 failed\n"), "{said:#?}");
    assert!(!desk.path("fail-output").exists(), "nothing came out");
    let said = desk
        .run(["plugin", "run", "fail", "--json"])
        .failed(1, "on purpose");
    assert_eq!(said.json()["state"], "failed");
}

#[test]
fn a_plugin_that_hangs_or_talks_nonsense_is_ended() {
    let desk = desk();
    desk.run([
        "plugin",
        "run",
        "sleep",
        "-p",
        "mark=31417",
        "--timeout",
        "0.5",
    ])
    .failed(1, "longer than 0.5 s");
    assert_eq!(crate::support::processes("31417"), [""; 0]);
    desk.write_executable("plugins/garbage", "#!/bin/sh\necho hello\nread line\n");
    desk.run(["plugin", "run", "./plugins/garbage"])
        .failed(1, "wrote \"hello\" to its standard output");
    desk.write_executable("plugins/silent", "#!/bin/sh\nsleep 31418\n");
    let said = desk
        .command(["plugin", "check", "plugins/silent"])
        .env("DESCRIBE_TIMEOUT", "0.5")
        .output()
        .unwrap();
    let said = Said::from(said);
    assert!(
        said.code == 1 && said.out.contains("no answer to welcome within 0.5 s"),
        "{said:#?}"
    );
    assert_eq!(crate::support::processes("31418"), [""; 0]);
}

#[test]
fn steps_are_submitted_or_refused() {
    let desk = desk();
    let said = desk
        .run(["plugin", "run", "ask", "-p", "name=you", "--json"])
        .failed(1, "--step greeting");
    assert!(said.err.contains("How to greet"), "{said:#?}");
    assert_eq!(said.json()["state"], "waiting");
    let run = |step: &[&str]| {
        let arguments = ["plugin", "run", "ask", "-p", "name=you", "--json", "--step"];
        desk.run(arguments.iter().chain(step))
    };
    // What the step was prefilled with counts unless another value is given.
    assert_eq!(run(&["greeting"]).ok().json()["log"], "hello you");
    assert_eq!(
        run(&["greeting", "word=bye", "times=2"]).ok().json()["log"],
        "byebye you"
    );
    run(&["greeting", "times=9"]).failed(1, "times (Times): ");
    run(&["other", "times=1"]).failed(1, "waits for the step \"greeting\", not for \"other\"");
    let said = run(&["greeting", "word=a", "--step", "more"]).ok();
    assert!(
        said.err.contains("did not ask for the steps more"),
        "{said:#?}"
    );
}

#[test]
fn plugins_can_call_others_and_pass_their_steps_on() {
    let desk = desk();
    let run = |step: &[&str]| {
        let arguments = [
            "plugin",
            "run",
            "./plugins/things.py",
            "--plugin",
            "chain",
            "--json",
        ];
        desk.run(arguments.iter().chain(step))
    };
    let said = run(&[]).failed(1, "ask@1.0.0 waits for the step");
    assert_eq!(said.json()["state"], "waiting");
    let said = run(&["--step", "greeting", "times=2"]).ok();
    assert_eq!(said.json()["log"], "called: hellohello you");
}

#[test]
fn check_says_what_is_wrong() {
    let desk = desk();
    let check = |name: &str, text: &str| {
        let path = desk.write(&format!("checked/{name}"), text);
        desk.run(["plugin", "check", path.to_str().unwrap()])
    };
    let good =
        "from runner import plugin\n\n@plugin(version='1', description='x')\ndef p(task): pass\n";
    let said = check("good.py", good).ok();
    assert!(
        said.out.contains("its example succeeds, with 0 outputs"),
        "{said:#?}"
    );
    for (name, text, part) in [
        ("syntax.py", "def", "SyntaxError"),
        (
            "import.py",
            "import nothing_of_this_name",
            "nothing_of_this_name",
        ),
        ("empty.py", "", "declares no plugin"),
        (
            "text.txt",
            "hello",
            "is no module: expected a Python or Lua file",
        ),
        ("script", "#!/bin/sh\n", "chmod +x"),
        (
            "version.py",
            "from runner import plugin\n@plugin(version='x')\ndef p(task): pass\n",
            "version",
        ),
        (
            "fails.py",
            "from runner import plugin\n@plugin(version='1')\ndef p(task): raise ValueError('on purpose')\n",
            "its example fails",
        ),
        ("loader/plugin.toml", "loader = \"cobol\"\n", ""),
    ] {
        let said = check(name, text);
        assert_eq!(said.code, 1, "{name}: {said:#?}");
        assert!(
            said.out.contains("problem") && said.out.contains(part),
            "{name}: {said:#?}"
        );
    }
    let said = desk.run(["plugin", "check", "checked/loader", "--json"]);
    let document = said.json();
    assert_eq!((said.code, &document["ok"]), (1, &json!(false)));
    assert_eq!(document["findings"][0]["level"], "problem");
    let said = desk.run(["plugin", "check", "plugins"]);
    assert!(
        said.code == 1
            && said
                .out
                .contains("has neither a plugin.toml nor an __init__.py"),
        "{said:#?}"
    );
    desk.run(["plugin", "check", "nothing"])
        .failed(1, "cannot read nothing");
    // What is printed while it is loaded is shown.
    let said = check("prints.py", &format!("print('look here')\n{good}")).ok();
    assert!(said.err.contains("look here"), "{said:#?}");
    assert!(desk.leftovers().is_empty());
}

#[test]
fn check_compares_promises_and_examples_with_what_happens() {
    let desk = desk();
    let description = json!({
        "name": "p", "version": "1", "example": {"n": 5, "x": 1},
        "parameters": {"type": "object", "properties": {"n": {"type": "integer", "maximum": 3}}},
    });
    let script = |description: &serde_json::Value| {
        format!(
            "#!/usr/bin/env python3\nimport json, sys\nplugin = json.loads({:?})\n{}",
            description.to_string(),
            "answers = {'welcome': {'protocol': 1, 'framing': 'lines'}, 'ping': {},\n\
             \x20          'describe': {'plugins': [plugin]}}\n\
             for request in map(json.loads, sys.stdin):\n\
             \x20   if request['method'] == 'shutdown':\n\
             \x20       break\n\
             \x20   if 'id' not in request:\n\
             \x20       continue\n\
             \x20   answer = {'error': {'code': -32601, 'message': 'unknown'}}\n\
             \x20   if request['method'] in answers:\n\
             \x20       answer = {'result': answers[request['method']]}\n\
             \x20   elif request['method'] == 'run' and request['params']['plugin'] == 'p@1':\n\
             \x20       answer = {'result': {}}\n\
             \x20   print(json.dumps({'jsonrpc': '2.0', 'id': request['id'], **answer}), flush=True)\n"
        )
    };
    desk.write_executable("checked", &script(&description));
    let said = desk.run(["plugin", "check", "checked"]);
    assert_eq!(said.code, 1, "{said:#?}");
    for part in [
        "the example is not valid:",
        "n (N): ",
        "x: Unknown field.",
        "warning",
    ] {
        assert!(said.out.contains(part), "{part} is not in {said:#?}");
    }
    let description = json!({
        "name": "p", "version": "1", "description": "d",
        "dataOutput": [{"dataType": "a/b", "contentType": ["text/csv"], "required": true}],
    });
    desk.write_executable("checked", &script(&description));
    let said = desk.run(["plugin", "check", "checked"]).ok();
    assert!(
        said.out
            .contains("it promises an output a/b (text/csv), and its example made none"),
        "{said:#?}"
    );
    assert!(
        !desk
            .run(["plugin", "check", "checked", "--no-run"])
            .ok()
            .out
            .contains("example")
    );
}
