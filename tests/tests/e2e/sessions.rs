//! Kernels of clients: Jupyter's routes, what is replayed, and limits.

mod bad_input;
mod lives;
mod replay;
mod tasks;

use std::sync::LazyLock;
use std::time::Duration;

use runner_tests::kernel::V1;
use runner_tests::{Request, Runner};
use serde_json::{Value, json};

/// How long something may take that does not take long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A runner that many tests share, and none ends.
fn shared() -> &'static Runner {
    static RUNNER: LazyLock<Runner> = LazyLock::new(|| Runner::builder().start());
    &RUNNER
}

/// The state of a kernel.
fn model(runner: &Runner, kernel: &str) -> Value {
    let path = format!("/api/kernels/{kernel}");
    runner.ask("GET", &path, None).expect(200).json()
}

#[test]
fn cells_run_in_both_forms_and_all_is_said_in_its_order() {
    let runner = shared();
    let kernel = runner.kernel();
    for protocol in [None, Some(V1)] {
        let mut client = runner.connect(&kernel, "", protocol).expect("a connection");
        let outcome = client.run("print('hello')\n6 * 7");
        let mut kinds: Vec<_> = outcome
            .said
            .iter()
            .filter(|message| message["channel"] == "iopub")
            .map(|message| message["header"]["msg_type"].as_str().unwrap_or_default())
            .collect();
        // What is printed comes in one part or several.
        kinds.dedup();
        assert_eq!(
            kinds,
            [
                "status",
                "execute_input",
                "stream",
                "execute_result",
                "status"
            ]
        );
        assert_eq!(outcome.text(), "hello\n");
        let result = outcome.contents("execute_result")[0];
        assert_eq!(result["data"]["text/plain"], "42");
        assert_eq!(outcome.reply()["status"], "ok");
    }
    let shown = model(runner, &kernel);
    assert_eq!(shown["execution_state"], "idle");
    assert_eq!(shown["name"], "python3");
    assert!(shown["confinement"]["levels"][0].is_string(), "{shown}");
}

#[test]
fn kernels_are_made_listed_and_ended_as_at_jupyter() {
    let runner = shared();
    assert!(runner.get("/api").expect(200).json()["version"].is_string());
    let specs = runner.get("/api/kernelspecs").expect(200).json();
    assert_eq!(specs["default"], "python3");
    let spec = &specs["kernelspecs"]["python3"];
    assert_eq!(spec["spec"]["language"], "python");
    assert_eq!(
        runner.get("/api/kernelspecs/python3").expect(200).json()["name"],
        "python3"
    );
    runner.get("/api/kernelspecs/ruby").expect(404);
    let made = runner.ask(
        "POST",
        "/api/kernels",
        Some(&json!({"name": "python3", "path": null})),
    );
    let made = made.expect(201);
    let model = made.json();
    let id = model["id"].as_str().expect("an id");
    assert_eq!(model["execution_state"], "starting");
    assert_eq!(model["connections"], 0);
    let path = format!("/api/kernels/{id}");
    assert_eq!(made.header("Location"), Some(path.as_str()));
    let all = runner.ask("GET", "/api/kernels", None).expect(200).json();
    let has = |all: &Value| {
        let mut all = all.as_array().expect("a list").iter();
        all.any(|one| one["id"] == id)
    };
    assert!(has(&all));
    let unknown = runner
        .ask("POST", "/api/kernels", Some(&json!({"name": "ruby"})))
        .expect(404);
    assert!(
        unknown.json()["message"]
            .as_str()
            .is_some_and(|text| text.contains("ruby"))
    );
    runner.ask("DELETE", &path, None).expect(204);
    let gone = runner.ask("GET", &path, None).expect(404).json();
    assert_eq!(gone["message"], format!("Kernel does not exist: {id}"));
    assert!(gone.get("reason").is_some_and(Value::is_null));
    // Its clients try to come back.
    assert_eq!(runner.connect(id, "", None).err(), Some(404));
}

#[test]
fn every_form_of_the_token_is_taken_and_nothing_goes_without() {
    let runner = shared();
    let token = runner.token();
    for scheme in ["token", "Bearer"] {
        let header = format!("{scheme} {token}");
        let request = Request::get("/api/kernels").header("Authorization", &header);
        runner.send(&request).expect(200);
    }
    runner
        .get(&format!("/api/kernels?token={token}"))
        .expect(200);
    runner.get("/api/kernels").expect(401);
    runner.get("/api/kernels?token=wrong").expect(401);
    let post = Request::post("/api/kernels").json(&json!({}));
    runner.send(&post).expect(401);
}

#[test]
fn names_for_kernels_are_made_changed_and_removed() {
    let runner = shared();
    let wish =
        json!({"path": "a.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}});
    let made = runner
        .ask("POST", "/api/sessions", Some(&wish))
        .expect(201)
        .json();
    let path = format!("/api/sessions/{}", made["id"].as_str().expect("an id"));
    let kernel = made["kernel"]["id"].as_str().expect("a kernel").to_owned();
    assert_eq!(made["path"], "a.ipynb");
    let change = json!({"path": "b.ipynb"});
    let changed = runner.ask("PATCH", &path, Some(&change)).expect(200).json();
    assert_eq!(
        (changed["path"].as_str(), changed["kernel"]["id"].as_str()),
        (Some("b.ipynb"), Some(kernel.as_str()))
    );
    let all = runner.ask("GET", "/api/sessions", None).expect(200).json();
    assert!(
        all.as_array()
            .is_some_and(|all| all.iter().any(|one| one["id"] == made["id"]))
    );
    runner.ask("DELETE", &path, None).expect(204);
    runner.ask("GET", &path, None).expect(404);
    runner
        .ask("GET", &format!("/api/kernels/{kernel}"), None)
        .expect(404);
}

#[test]
fn code_is_interrupted_and_kernels_restarted_over_http_and_by_messages() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let forever = "print('begun', flush=True)\nwhile True: pass";
    let request = client.execute(forever);
    client.wait_for(&request, "stream");
    assert_eq!(model(runner, &kernel)["execution_state"], "busy");
    runner
        .ask("POST", &format!("/api/kernels/{kernel}/interrupt"), None)
        .expect(204);
    assert_eq!(
        client.outcome(&request).reply()["ename"],
        "KeyboardInterrupt"
    );
    let request = client.execute(forever);
    client.wait_for(&request, "stream");
    let interrupt = client.ask("control", "interrupt_request", &json!({}));
    assert_eq!(
        client.wait_for(&interrupt, "interrupt_reply")["content"]["status"],
        "ok"
    );
    assert_eq!(
        client.outcome(&request).reply()["ename"],
        "KeyboardInterrupt"
    );
    client.run("x = 1\nopen('kept', 'w').close()");
    let request = client.execute(forever);
    client.wait_for(&request, "stream");
    let restarted = runner
        .ask("POST", &format!("/api/kernels/{kernel}/restart"), None)
        .expect(200);
    assert_eq!(restarted.json()["id"].as_str(), Some(kernel.as_str()));
    assert_eq!(client.outcome(&request).reply()["ename"], "KernelRestarted");
    let after = client.run("import os; print(os.path.exists('kept'), 'x' in globals())");
    assert_eq!(after.text(), "True False\n");
}

#[test]
fn questions_are_answered_by_who_asked() {
    let runner = shared();
    let mut client = runner.channels(&runner.kernel());
    let content = json!({"code": "print(input('name? '))", "allow_stdin": true});
    let request = client.ask("shell", "execute_request", &content);
    let asked = client.wait_for(&request, "input_request");
    assert_eq!(
        (
            asked["channel"].as_str(),
            asked["content"]["prompt"].as_str()
        ),
        (Some("stdin"), Some("name? "))
    );
    client.ask("stdin", "input_reply", &json!({"value": "Ada"}));
    assert_eq!(client.outcome(&request).text(), "Ada\n");
}

#[test]
fn a_session_sees_nothing_of_another_nor_of_the_runner() {
    let runner = shared();
    let (mut one, mut other) = (
        runner.channels(&runner.kernel()),
        runner.channels(&runner.kernel()),
    );
    one.run("open('secret', 'w').write('x')");
    let place = one.run("import os; print(os.getcwd())").text();
    let folder = place.trim();
    let code = format!(
        "import os, socket\n\
         def tried(what):\n\
         \x20   try:\n\
         \x20       what()\n\
         \x20   except OSError as error:\n\
         \x20       return type(error).__name__\n\
         \x20   return 'done'\n\
         print(tried(lambda: open('{folder}/secret')))\n\
         print(tried(lambda: os.listdir('{folder}')))\n\
         print(tried(lambda: os.listdir('{folder}/..')))\n\
         print([pid for pid in os.listdir('/proc') if pid.isdigit() and int(pid) not in (1, os.getpid())])\n\
         print(tried(lambda: os.kill(os.getppid(), 9)))\n\
         print(tried(lambda: open('/proc/1/environ')))\n\
         print(tried(lambda: open('/tmp/x', 'w')))\n\
         print(tried(lambda: socket.create_connection(('127.0.0.1', {}), 2)))\n",
        runner.port()
    );
    let text = other.run(&code).text();
    assert!(!text.contains("done"), "{text}");
    assert!(text.contains("[]"), "no other process is there: {text}");
    assert_eq!(text.lines().count(), 8, "{text}");
    assert_eq!(one.run("print(open('secret').read())").text(), "x\n");
}

#[test]
fn files_go_in_and_out_and_nowhere_else() {
    let runner = shared();
    let kernel = runner.kernel();
    let mut client = runner.channels(&kernel);
    let path = |name: &str| format!("/api/kernels/{kernel}/files/{name}");
    let bearer = format!("Bearer {}", runner.token());
    let put = |name: &str, content: &str| {
        let request = Request::new("PUT", &path(name)).header("Authorization", &bearer);
        runner.send(&request.body("application/octet-stream", content))
    };
    put("data/in.txt", "hello").expect(204);
    let code = "text = open('data/in.txt').read()\nopen('out.txt', 'w').write(text.upper())";
    client.run(code);
    client.run("import os; os.symlink('/etc', 'link')");
    let out = runner.ask("GET", &path("out.txt"), None).expect(200);
    assert_eq!(out.text(), "HELLO");
    let listed = runner.ask("GET", &path("").replace("files/", "files"), None);
    let listed = listed.expect(200).json();
    let listed = listed["files"].as_array().expect("a list").iter();
    let names: Vec<_> = listed
        .map(|one| one["path"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(names, ["data/in.txt", "out.txt"]);
    for wrong in [
        "..%2Fx",
        "%2E%2E/x",
        "a/..%2F..%2Fx",
        "link/x",
        "%2Fetc%2Fx",
    ] {
        let answer = put(wrong, "x");
        assert!(
            [400, 404].contains(&answer.status),
            "{wrong}: {}",
            answer.status
        );
    }
    assert_eq!(runner.ask("GET", &path("link/passwd"), None).status, 400);
    runner.ask("DELETE", &path("out.txt"), None).expect(204);
    runner.ask("GET", &path("out.txt"), None).expect(404);
}

#[test]
fn variables_of_a_session_are_its_kernels() {
    let runner = shared();
    let wish = json!({"env": {"GREETING": "hello"}});
    let made = runner
        .ask("POST", "/api/kernels", Some(&wish))
        .expect(201)
        .json();
    let mut client = runner.channels(made["id"].as_str().expect("an id"));
    assert_eq!(
        client
            .run("import os; print(os.environ['GREETING'])")
            .text(),
        "hello\n"
    );
}
