//! Sessions at workers of their own, reached by any server.

use std::thread;
use std::time::{Duration, Instant};

use runner_tests::kernel::{Channels, V1};
use runner_tests::services::RedisServer;
use runner_tests::{Request, Runner, Worker, eventually};
use serde_json::{Value, json};

use crate::site::Site;

/// How long something may take that does not take long.
const DEADLINE: Duration = Duration::from_secs(30);
/// An id that no kernel has.
const UNKNOWN: &str = "5c0ffee5-0000-4000-8000-000000000001";

/// A worker that has sessions and nothing else.
fn worker(site: &Site, settings: &[(&str, &str)]) -> Worker {
    let mut builder = site.process().arg("--only").arg("sessions");
    for (name, value) in settings {
        builder = builder.env(name, value);
    }
    // What is loaded ahead makes the first kernel slow.
    builder.env("SESSION_PRELOAD", "").start_worker()
}

/// A server, as soon as it finds so many workers with sessions.
fn server(site: &Site, workers: usize) -> Runner {
    let server = site.server();
    until_workers(&server, workers);
    server
}

fn until_workers(server: &Runner, count: usize) {
    eventually("workers with sessions", DEADLINE, || {
        let shown = server.ask("GET", "/workers/", None).expect(200).json();
        let workers = shown["workers"].as_array().expect("a list").iter();
        let able = workers.filter(|worker| worker["sessions"].is_u64());
        (able.count() == count).then_some(())
    });
}

/// How many sessions each worker has, the least first.
fn spread(server: &Runner) -> Vec<u64> {
    let shown = server.ask("GET", "/workers/", None).expect(200).json();
    let workers = shown["workers"].as_array().expect("a list").iter();
    let mut counts: Vec<u64> = workers
        .filter_map(|worker| worker["sessions"].as_u64())
        .collect();
    counts.sort_unstable();
    counts
}

/// The ids of all kernels that a server lists.
fn kernels(server: &Runner) -> Vec<String> {
    let all = server.ask("GET", "/api/kernels", None).expect(200).json();
    let all = all.as_array().expect("a list").iter();
    all.map(|one| one["id"].as_str().expect("an id").to_owned())
        .collect()
}

/// A connection as soon as there may be one.
fn connect_soon(server: &Runner, kernel: &str, query: &str) -> Channels {
    eventually("a connection", DEADLINE, || {
        match server.connect(kernel, query, None) {
            Ok(channels) => Some(channels),
            Err(503) => None,
            Err(status) => panic!("answered {status}"),
        }
    })
}

/// Reads until something was printed.
fn read_until(channels: &mut Channels, wanted: &str) {
    let mut text = String::new();
    while !text.contains(wanted) {
        let message = channels.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "stream" {
            text.push_str(message["content"]["text"].as_str().unwrap_or_default());
        }
    }
}

#[test]
fn a_kernel_is_reached_by_any_server_in_both_forms_and_replayed() {
    let site = Site::sqlite();
    let _workers = [worker(&site, &[]), worker(&site, &[])];
    let (one, other) = (server(&site, 2), server(&site, 2));
    let kernel = one.kernel();
    for (server, protocol) in [(&other, Some(V1)), (&one, None)] {
        let mut client = server.connect(&kernel, "", protocol).expect("a connection");
        let outcome = client.run("print('hello')\n6 * 7");
        assert_eq!(outcome.text(), "hello\n");
        let result = outcome.contents("execute_result")[0];
        assert_eq!(result["data"]["text/plain"], "42");
    }
    let mut again = other
        .connect(&kernel, "offset=0", None)
        .expect("a connection");
    read_until(&mut again, "hello\nhello\n");
    drop(again);
    // Each has its share, and every server lists all.
    let mut made = vec![kernel.clone()];
    made.extend((0..3).map(|_| other.kernel()));
    assert_eq!(spread(&one), [2, 2]);
    let mut listed = kernels(&one);
    listed.sort();
    made.sort();
    assert_eq!(listed, made);
    let path = format!("/api/kernels/{kernel}");
    other
        .ask("POST", &format!("{path}/interrupt"), None)
        .expect(204);
    other
        .ask("POST", &format!("{path}/restart"), None)
        .expect(200);
    other
        .ask("GET", &format!("{path}/stderr"), None)
        .expect(200);
    let specs = one.get("/api/kernelspecs").expect(200).json();
    assert_eq!(specs["default"], "python3");
    one.get("/api/kernelspecs/python3").expect(200);
    one.get("/api/kernelspecs/ruby").expect(404);
    let ruby = json!({"name": "ruby"});
    one.ask("POST", "/api/kernels", Some(&ruby)).expect(404);
    // What was ended stays so, wherever it is asked for.
    one.ask("DELETE", &path, None).expect(204);
    other.ask("GET", &path, None).expect(404);
    for server in [&one, &other] {
        assert_eq!(server.connect(&kernel, "", None).err(), Some(404));
    }
}

#[test]
fn urls_are_those_of_the_server_and_who_asks_is_checked_there() {
    let site = Site::sqlite();
    let _worker = worker(&site, &[]);
    let server = server(&site, 1);
    let made = server
        .ask("POST", "/api/kernels", Some(&json!({})))
        .expect(201);
    let id = made.json()["id"].as_str().expect("an id").to_owned();
    let path = format!("/api/kernels/{id}");
    assert_eq!(made.header("Location"), Some(path.as_str()));
    // "caller": an administrator, as a server would say it.
    let claim = "%7B%22caller%22%3A%7B%22subject%22%3Anull%2C%22access%22%3A%22admin%22%2C%22is_known%22%3Atrue%7D\
                 %2C%22address%22%3Anull%2C%22origin%22%3A%22http%3A%2F%2Fa%22%2C%22prefix%22%3A%22%22%2C%22elsewhere%22%3A0%7D";
    let forged = Request::get(&path).header("X-Runner-Asker", claim);
    server.send(&forged).expect(401);
    let bearer = format!("Bearer {}", server.token());
    let own = Request::get(&path)
        .header("X-Runner-Asker", claim)
        .header("Authorization", &bearer);
    server.send(&own).expect(200);
    // Pages of others run no code.
    let page = Request::get(&format!("{path}/channels?token={}", server.token()))
        .header("Origin", "https://evil.example.org")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
    server.send(&page).expect(403);
    // No WebSocket at all.
    server
        .ask("GET", &format!("{path}/channels"), None)
        .expect(400);
    server.ask("GET", "/api/kernels/no-id", None).expect(404);
    server.ask("PATCH", "/api/kernels", None).expect(405);
    let broken = Request::post("/api/kernels")
        .header("Authorization", &bearer)
        .body("application/json", "{");
    server.send(&broken).expect(400);
}

#[test]
fn a_server_that_is_killed_loses_nothing() {
    let site = Site::sqlite();
    let _worker = worker(&site, &[]);
    let mut server = server(&site, 1);
    let kernel = server.kernel();
    let mut client = server
        .connect(&kernel, "session_id=me", None)
        .expect("a connection");
    let code = "import time\nfor n in range(40):\n    print('line', n, flush=True)\n    time.sleep(0.05)\nprint('end')";
    let request = client.execute(code);
    client.wait_for(&request, "stream");
    server.kill9();
    server.restart();
    // Its own place in the log is where the server had it.
    let mut back = connect_soon(&server, &kernel, "session_id=me");
    read_until(&mut back, "end\n");
    let mut all = connect_soon(&server, &kernel, "offset=0");
    let mut text = String::new();
    while !text.ends_with("end\n") {
        let message = all.read().expect("the connection was closed");
        if message["header"]["msg_type"] == "stream" {
            text.push_str(message["content"]["text"].as_str().unwrap_or_default());
        }
    }
    let lines: String = (0..40).map(|n| format!("line {n}\n")).collect();
    assert_eq!(text, format!("{lines}end\n"));
}

#[test]
fn the_kernels_of_a_worker_that_is_killed_begin_anew_elsewhere() {
    let site = Site::sqlite();
    let mut workers = vec![worker(&site, &[])];
    let server = server(&site, 1);
    let kernel = server.kernel();
    let mut client = server.channels(&kernel);
    assert_eq!(client.run("x = 1; print('set')").text(), "set\n");
    workers.push(worker(&site, &[]));
    until_workers(&server, 2);
    workers[0].kill9();
    let begun = Instant::now();
    // Whoever was connected hears of it.
    while client.read().is_some() {}
    let mut client = connect_soon(&server, &kernel, "");
    assert_eq!(client.run("print('x' in globals())").text(), "False\n");
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(kernels(&server), [kernel]);
}

#[test]
fn unknown_ids_begin_once_whoever_asks_where() {
    let site = Site::sqlite();
    let _workers = [worker(&site, &[]), worker(&site, &[])];
    let servers = [server(&site, 2), server(&site, 2)];
    let marks: Vec<String> = thread::scope(|scope| {
        let racing = servers.iter().flat_map(|server| [server, server]);
        let racing = racing.map(|server| {
            scope.spawn(|| {
                let mut client = server.channels(UNKNOWN);
                let code = "import uuid\nmark = globals().get('mark') or uuid.uuid4()\nprint(mark)";
                client.run(code).text()
            })
        });
        let racing: Vec<_> = racing.collect();
        racing
            .into_iter()
            .map(|one| one.join().expect("no panic"))
            .collect()
    });
    assert!(marks.iter().all(|mark| *mark == marks[0]), "{marks:?}");
    assert_eq!(kernels(&servers[0]), [UNKNOWN]);
    for status in ["GET", "DELETE"] {
        let other = UNKNOWN.replace('1', "2");
        let path = format!("/api/kernels/{other}");
        servers[0].ask(status, &path, None).expect(404);
    }
}

#[test]
fn who_finds_no_room_or_no_worker_is_told_to_come_back() {
    let site = Site::sqlite();
    let none = site.server();
    let refused = |server: &Runner, method: &str, path: &str| {
        let begun = Instant::now();
        let answer = server.ask(method, path, Some(&json!({}))).expect(503);
        assert!(answer.header("Retry-After").is_some());
        assert!(begun.elapsed() < Duration::from_secs(5));
        answer.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    };
    for (method, path) in [
        ("POST", "/api/kernels"),
        ("GET", "/api/kernels"),
        ("GET", "/api/kernelspecs"),
    ] {
        let why = refused(&none, method, path);
        assert!(why.contains("No worker"), "{why}");
    }
    assert_eq!(none.connect(UNKNOWN, "", None).err(), Some(503));
    let limit = [("SESSION_MAX", "1")];
    let workers = [worker(&site, &limit), worker(&site, &limit)];
    until_workers(&none, 2);
    let made = [none.kernel(), none.kernel()];
    assert_eq!(spread(&none), [1, 1]);
    let why = refused(&none, "POST", "/api/kernels");
    assert!(why.contains("SESSION_MAX"), "{why}");
    assert_eq!(none.connect(UNKNOWN, "", None).err(), Some(503));
    none.ask("DELETE", &format!("/api/kernels/{}", made[0]), None)
        .expect(204);
    none.kernel();
    drop(workers);
}

#[test]
fn the_limit_of_a_client_holds_over_all_workers() {
    let site = Site::sqlite();
    let limit = [("SESSION_MAX_PER_CLIENT", "2")];
    let _workers = [worker(&site, &limit), worker(&site, &limit)];
    let servers = [server(&site, 2), server(&site, 2)];
    servers[0].kernel();
    servers[1].kernel();
    assert_eq!(spread(&servers[0]), [1, 1]);
    let refused = servers[1]
        .ask("POST", "/api/kernels", Some(&json!({})))
        .expect(503);
    assert!(refused.text().contains("SESSION_MAX_PER_CLIENT"));
    assert_eq!(servers[0].connect(UNKNOWN, "", None).err(), Some(503));
}

#[test]
fn names_for_kernels_lead_to_one_kernel_at_any_server() {
    let site = Site::sqlite();
    let _workers = [worker(&site, &[]), worker(&site, &[])];
    let (one, other) = (server(&site, 2), server(&site, 2));
    let wish = |path: &str| json!({"path": path, "type": "notebook", "name": "", "kernel": {"name": "python3"}});
    let post = |server: &Runner, wish: &Value| {
        server
            .ask("POST", "/api/sessions", Some(wish))
            .expect(201)
            .json()
    };
    let made = post(&one, &wish("a.ipynb"));
    assert_eq!(
        post(&other, &wish("a.ipynb"))["kernel"]["id"],
        made["kernel"]["id"]
    );
    let second = post(&other, &wish("b.ipynb"));
    assert_ne!(second["kernel"]["id"], made["kernel"]["id"]);
    let all = one.ask("GET", "/api/sessions", None).expect(200).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2));
    // A name for a kernel that there is.
    let kernel = other.kernel();
    let mut third = wish("c.ipynb");
    third["kernel"] = json!({"id": kernel});
    assert_eq!(post(&one, &third)["kernel"]["id"], kernel.as_str());
    let path = format!("/api/sessions/{}", made["id"].as_str().expect("an id"));
    let changed = other
        .ask("PATCH", &path, Some(&json!({"path": "d.ipynb"})))
        .expect(200);
    assert_eq!(changed.json()["path"], "d.ipynb");
    assert_eq!(post(&one, &wish("d.ipynb"))["id"], made["id"]);
    other.ask("DELETE", &path, None).expect(204);
    one.ask("GET", &path, None).expect(404);
    one.ask("GET", "/api/sessions/none", None).expect(404);
    let missing = one.ask("POST", "/api/sessions", Some(&json!({"kernel": {}})));
    missing.expect(400);
}

#[test]
fn large_files_go_through_a_link_both_ways() {
    let site = Site::sqlite();
    let _worker = worker(&site, &[]);
    let server = server(&site, 1);
    let kernel = server.kernel();
    let mut client = server.channels(&kernel);
    client.run("pass");
    let size = 50 << 20;
    let content: Vec<u8> = (0..size).map(|at: usize| (at / 997 + at) as u8).collect();
    let path = format!("/api/kernels/{kernel}/files/large.bin");
    let bearer = format!("Bearer {}", server.token());
    let put = Request::new("PUT", &path)
        .header("Authorization", &bearer)
        .body("application/octet-stream", content.clone());
    server.send(&put).expect(204);
    let code = "import os; print(os.path.getsize('large.bin'))";
    assert_eq!(client.run(code).text(), format!("{size}\n"));
    let got = server.ask("GET", &path, None).expect(200);
    assert!(got.body == content, "{} of {size} bytes", got.body.len());
}

#[test]
fn a_redis_that_was_emptied_learns_again_what_there_is() {
    let site = Site::sqlite().with_redis(RedisServer::start());
    let _workers = [worker(&site, &[]), worker(&site, &[])];
    let server = server(&site, 2);
    let kernel = server.kernel();
    let mut client = server
        .connect(&kernel, "session_id=me", None)
        .expect("a connection");
    assert_eq!(client.run("x = 1; print('set')").text(), "set\n");
    site.redis.command(&["FLUSHALL"]);
    while client.read().is_some() {}
    until_workers(&server, 2);
    eventually("the kernel", DEADLINE, || {
        let path = format!("/api/kernels/{kernel}");
        (server.ask("GET", &path, None).status == 200).then_some(())
    });
    let mut client = connect_soon(&server, &kernel, "session_id=me");
    assert_eq!(client.run("print(x)").text(), "1\n");
}

#[test]
fn a_worker_has_kernels_for_cells_and_no_sessions() {
    let site = Site::sqlite();
    let settings = [("SAGE_CELL", "on"), ("SESSIONS", "off")];
    let _worker = worker(&site, &settings);
    let server = site.process().server();
    let server = settings
        .into_iter()
        .fold(server, |server, (name, value)| server.env(name, value))
        .start();
    let cells = || {
        let shown = server.ask("GET", "/workers/", None).expect(200).json();
        let workers = shown["workers"].as_array().expect("a list").iter();
        let mut able = workers.filter(|worker| worker["cells"].is_u64());
        able.next().cloned()
    };
    let worker = eventually("a worker with cells", DEADLINE, cells);
    assert_eq!(worker["cells"], 0);
    assert!(
        worker["cellRoom"].as_u64() > Some(0) && worker.get("sessions").is_none(),
        "{worker}"
    );
    let made = server.ask("POST", "/kernel", None).expect(200).json();
    assert!(made["id"].is_string(), "{made}");
    eventually("its kernel is counted", DEADLINE, || {
        cells().filter(|worker| worker["cells"] == 1)
    });
    assert_eq!(server.ask("GET", "/api/kernels", None).status, 501);
}

#[test]
fn a_worker_does_what_it_is_limited_to() {
    let site = Site::sqlite();
    let sessions = worker(&site, &[]);
    assert!(sessions.stdout().contains("sessions of the queue"));
    let server = server(&site, 1);
    let tasks = site.process().arg("--only").arg("tasks").start_worker();
    // The one for tasks has none, the one for sessions runs nothing.
    assert_eq!(spread(&server), [0]);
    let shown = server.ask("GET", "/workers/", None).expect(200).json();
    let workers = shown["workers"].as_array().expect("a list").iter();
    let idle = workers.filter(|worker| worker["kind"] == "worker" && worker["concurrency"] == 0);
    assert_eq!(idle.count(), 1);
    drop(tasks);
    let refusal = site
        .process()
        .worker()
        .arg("--only")
        .arg("all")
        .expect_refusal();
    assert!(
        refusal.stderr.contains("tasks, sessions"),
        "{}",
        refusal.stderr
    );
}

#[test]
fn where_sessions_are_off_none_are_offered() {
    let site = Site::sqlite();
    let server = site.process().server().env("SESSIONS", "off").start();
    let refused = server
        .ask("POST", "/api/kernels", Some(&json!({})))
        .expect(501);
    assert!(refused.text().contains("SESSIONS"));
}

#[test]
fn the_command_lists_and_ends_sessions_of_workers() {
    let site = Site::sqlite();
    let _worker = worker(&site, &[]);
    let server = server(&site, 1);
    let kernel = server.kernel();
    let run = |arguments: &[&str]| {
        let mut command = runner_tests::runner::command(server.home());
        let output = command
            .arg("session")
            .args(arguments)
            .env("RUNNER_INSTANCE_FOLDER", server.instance())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert!(run(&["list"]).contains(&kernel));
    assert!(run(&["show", &kernel]).contains("execution_state"));
    run(&["stop", &kernel]);
    assert!(run(&["list"]).contains("no sessions"));
}
