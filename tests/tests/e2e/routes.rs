//! Own routes of plugins: pages, files and streams below a plugin's URL; and the webhook that wakes one.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runner_tests::http::{BOUNDARY, Part};
use runner_tests::runner::Builder;
use runner_tests::{Request, Response, Runner, eventually, proc};
use serde_json::{Value, json};

const PAGES: &str = "/plugins/pages@1-0-0";
const STUCK: &str = "/plugins/stuck@1-0-0";
/// How long something may take that comes soon.
const SOON: Duration = Duration::from_secs(10);
const MIB: u64 = 1024 * 1024;

fn builder() -> Builder {
    Runner::builder()
        .plugins(["tests/fixtures/routes"])
        .env("CONCURRENCY", 2)
}

fn runner() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| builder().start())
}

fn pid(runner: &Runner, plugin: &str) -> u32 {
    let pid = runner.get(&format!("{plugin}/pid")).expect(200).json();
    let pid = pid["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok());
    let inner = pid.expect("the plugin tells its pid");
    let name = plugin.trim_start_matches("/plugins/");
    let name = name.split('@').next().unwrap_or(name);
    let outer = runner_tests::proc::inside(runner.pid(), inner, &format!("{name}.py"));
    outer.expect("a host of its module has this pid")
}

/// Sends a request and reads no more of the answer than its head.
fn open(runner: &Runner, request: &Request) -> TcpStream {
    let mut stream = TcpStream::connect(runner.address()).expect("the runner listens");
    stream
        .set_read_timeout(Some(SOON * 6))
        .expect("a limit is set");
    let bytes = request.to_bytes(runner.address());
    stream.write_all(&bytes).expect("the request is sent");
    read_head(&mut stream);
    stream
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("a head is answered");
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    head
}

#[test]
fn pages_get_path_query_and_the_way_back() {
    let page = runner().get(&format!("{PAGES}/page/%3Cb%3E?color=red%26"));
    let page = page.expect(200);
    let link = format!("{}{PAGES}/x", runner().base());
    assert_eq!(
        page.text(),
        format!("<!doctype html><p>&lt;b&gt;, red&amp;, {link}")
    );
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("X-Content-Type-Options"), Some("nosniff"));
    // The identifier may be written differently.
    let fixed = runner()
        .get("/plugins/pages%401-0-0/page/fixed/")
        .expect(200)
        .json();
    assert_eq!(fixed["path"], "/page/fixed/");
    assert_eq!(fixed["headers"]["x-forwarded-prefix"], PAGES);
    let head = runner().send(&Request::new("HEAD", &format!("{PAGES}/page/a")));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let other = runner()
        .get("/plugins/second@1-0-0/whoami")
        .expect(200)
        .json();
    assert_eq!(other["plugin"], "second@1-0-0");
    let first = runner().get(&format!("{PAGES}/pid")).expect(200).json();
    assert_eq!(other["pid"], first["pid"], "one process for a module");
}

#[test]
fn paths_arrive_as_they_were_sent() {
    let rest = |method: &str, path: &str| {
        let request = Request::new(method, &format!("{PAGES}/rest/{path}"));
        runner().send(&request).expect(200).json()
    };
    let seen = rest("PUT", "a%2Fb/%C3%A4/c/?x=1&x=&y=%20");
    assert_eq!(
        seen,
        json!({"method": "PUT", "path": "a/b/ä/c/", "query": [["x", "1"], ["x", ""], ["y", " "]]})
    );
    assert_eq!(rest("DELETE", "no-slash")["path"], "no-slash");
    assert_eq!(rest("GET", "1/x-uix")["path"], "1/x-uix");
}

#[test]
fn the_routes_of_the_runner_come_first() {
    let metadata = runner().get(&format!("{PAGES}/")).expect(200).json();
    assert_eq!(metadata["name"], "pages");
    assert!(
        runner()
            .get(&format!("{PAGES}/ui/"))
            .expect(200)
            .text()
            .contains("<form")
    );
    runner().get(&format!("{PAGES}/process/")).expect(405);
    for path in ["ui", "process", "7/x-ui", "7/x-process"] {
        let answer = runner().get(&format!("{PAGES}/{path}?a=b"));
        assert_eq!(answer.status, 308, "{path}");
        let location = format!("{}{PAGES}/{path}/?a=b", runner().base());
        assert_eq!(answer.header("Location"), Some(location.as_str()));
    }
    let step = runner()
        .get(&format!("{PAGES}/99999/x-ui/"))
        .expect(404)
        .json();
    assert_eq!(step["message"], "Task not found.");
}

#[test]
fn a_plugin_without_routes_has_none() {
    for path in [
        "page/x",
        "page/x/",
        "x",
        "1/2/",
        "1/2/3",
        "static/style.css",
    ] {
        let answer = runner().get(&format!("/plugins/routeless@1-0-0/{path}"));
        assert_eq!(
            answer.expect(404).json(),
            json!({"code": 404, "status": "Not Found"}),
            "{path}"
        );
    }
    let unknown = runner()
        .get("/plugins/nobody@1-0-0/page")
        .expect(404)
        .json();
    assert_eq!(unknown["message"], "No plugin registered with that name.");
    let missing = runner()
        .get(&format!("{PAGES}/page/a/b"))
        .expect(404)
        .json();
    assert_eq!(missing, json!({"code": 404, "status": "Not Found"}));
    let wrong = runner()
        .post_form(&format!("{PAGES}/page/a"), &[])
        .expect(405);
    assert_eq!(wrong.header("Allow"), Some("GET, HEAD, OPTIONS"));
}

#[test]
fn static_files_and_nothing_beside_them() {
    let path = format!("{PAGES}/static/style.css");
    let file = runner().get(&path).expect(200);
    assert_eq!(file.text(), "body { color: green }\n");
    assert_eq!(file.header("Content-Type"), Some("text/css; charset=utf-8"));
    let etag = file.header("ETag").unwrap();
    let known = runner().send(&Request::get(&path).header("If-None-Match", etag));
    assert_eq!((known.status, known.body.len()), (304, 0));
    let index = runner().get(&format!("{PAGES}/static/")).expect(200);
    assert!(index.text().contains("Index"));
    let deep = runner()
        .get(&format!("{PAGES}/static/deep/data.json"))
        .expect(200);
    assert_eq!(deep.header("Content-Type"), Some("application/json"));
    for path in [
        "../pages.py",
        "..%2Fpages.py",
        "%2e%2e/pages.py",
        "deep/../../pages.py",
        "deep/..%2f..%2fpages.py",
        "%2Fetc%2Fpasswd",
        "/etc/passwd",
        "..%5Cpages.py",
        "style.css%00",
        ".hidden",
        "%2ehidden",
        "deep",
        "style.css/",
        "missing",
    ] {
        let answer = runner().get(&format!("{PAGES}/static/{path}"));
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
    }
}

#[test]
fn forms_and_files_reach_the_plugin() {
    let urlencoded = runner().post_form(&format!("{PAGES}/form"), &[("a", "1"), ("a", "ä")]);
    assert_eq!(
        urlencoded.expect(200).json(),
        json!({"fields": [["a", "1"], ["a", "ä"]], "files": {}})
    );
    let parts = [
        Part::field("a", "x\r\n--y"),
        Part::file("f", "../n.txt", "text/plain", b"content\r\n"),
        Part::field("empty", ""),
    ];
    let multipart = runner().post_multipart(&format!("{PAGES}/form"), &parts);
    assert_eq!(
        multipart.expect(200).json(),
        json!({
            "fields": [["a", "x\r\n--y"], ["empty", ""]],
            "files": {"f": ["n.txt", "text/plain", "content\r\n"]},
        })
    );
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    for (kind, body, status) in [
        (kind.as_str(), "--XboundaryX\r\nhalf", 400),
        ("multipart/form-data", "x", 400),
        ("text/plain", "x", 415),
    ] {
        let request = Request::post(&format!("{PAGES}/form"));
        let request = Request {
            headers: Vec::new(),
            ..request
        }
        .body(kind, body);
        runner().send(&request).expect(status);
    }
}

#[test]
fn large_bodies_flow_both_ways_in_little_memory() {
    const SIZE: u64 = 100 * MIB;
    let runner = builder().start();
    pid(&runner, PAGES);
    let before = proc::resident(runner.pid());
    let mut most = before;
    let request = Request::post(&format!("{PAGES}/mirror"));
    let request = Request {
        body: None,
        ..request
    }
    .header("Content-Length", &SIZE.to_string());
    let mut stream = TcpStream::connect(runner.address()).unwrap();
    stream.set_read_timeout(Some(SOON * 6)).unwrap();
    stream
        .write_all(&request.to_bytes(runner.address()))
        .unwrap();
    let mut sink = stream.try_clone().unwrap();
    let piece: Vec<u8> = (0..MIB).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let sent = piece.clone();
    let sender = thread::spawn(move || {
        for _ in 0..SIZE / MIB {
            sink.write_all(&sent).unwrap();
        }
    });
    let head = read_head(&mut stream);
    assert!(
        head.to_lowercase().contains("transfer-encoding: chunked"),
        "{head}"
    );
    // What is chunked is read by hand, so that nothing is kept.
    let mut reader = std::io::BufReader::new(stream);
    let mut total = 0_u64;
    loop {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut reader, &mut line).unwrap();
        let size = u64::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; usize::try_from(size).unwrap() + 2];
        reader.read_exact(&mut chunk).unwrap();
        if size == 0 {
            break;
        }
        for (at, byte) in chunk[..chunk.len() - 2].iter().enumerate() {
            let place = (total + at as u64) % MIB;
            assert_eq!(*byte, piece[usize::try_from(place).unwrap()]);
        }
        total += size;
        most = most.max(proc::resident(runner.pid()));
    }
    sender.join().unwrap();
    assert_eq!(total, SIZE);
    assert!(
        most < before + 16 * MIB,
        "memory grew from {before} to {most} bytes"
    );
}

#[test]
fn bodies_have_a_limit() {
    let runner = builder().env("MAX_UPLOAD_SIZE", 1000).start();
    let post =
        |body: Vec<u8>| runner.send(&Request::post(&format!("{PAGES}/digest")).body("", body));
    assert_eq!(post(vec![0; 1000]).expect(200).json()["size"], 1000);
    let refused = post(vec![0; 1001]).expect(413).json();
    assert_eq!(
        refused["message"],
        "The body is larger than the limit of 1000 bytes."
    );
    let request = Request::post(&format!("{PAGES}/digest"));
    let chunked = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let request = Request {
        headers: Vec::new(),
        ..request
    }
    .header("Transfer-Encoding", "chunked")
    .body("", chunked);
    runner.send(&request).expect(413);
    let request = Request::post(&format!("{PAGES}/digest"));
    let request = Request {
        headers: Vec::new(),
        ..request
    }
    .header("Transfer-Encoding", "chunked")
    .body("", "no chunk\r\n");
    runner.send(&request).expect(400);
}

#[test]
fn an_answer_may_come_before_the_body_was_read() {
    let body = vec![0; 5_000_000];
    let request = Request::post(&format!("{PAGES}/refuse")).body("", body);
    let answer = runner().send(&request).expect(418);
    assert_eq!(answer.json()["message"], "Not with this teapot.");
}

#[test]
fn events_arrive_as_they_are_sent() {
    let begin = Instant::now();
    let mut stream = open(runner(), &Request::get(&format!("{PAGES}/clock?count=4")));
    let mut text = String::new();
    let mut times = Vec::new();
    let mut buffer = [0; 1000];
    while !text.contains("data: 3") {
        let size = stream.read(&mut buffer).unwrap();
        assert_ne!(size, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..size]).unwrap());
        while times.len() < text.matches("data: ").count() {
            times.push(begin.elapsed());
        }
    }
    for pair in times.windows(2) {
        assert!(pair[1] - pair[0] > Duration::from_millis(100), "{times:?}");
    }
}

#[test]
fn a_client_that_leaves_is_noticed_by_the_plugin() {
    let runner = builder().start();
    let count = || runner.get(&format!("{PAGES}/streams")).expect(200).json()["open"].clone();
    let stream = open(&runner, &Request::get(&format!("{PAGES}/endless")));
    assert_eq!(count(), 1);
    drop(stream);
    eventually("the end of the stream", SOON, || {
        (count() == 0).then_some(())
    });
}

#[test]
fn requests_are_answered_at_the_same_time() {
    let meet = || runner().get(&format!("{PAGES}/meet")).expect(200).json();
    let mut places: Vec<Value> = thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
        threads.into_iter().map(|one| one.join().unwrap()).collect()
    });
    places.sort_by_key(|place| place["place"].as_u64());
    assert_eq!(
        json!(places),
        json!([{"place": 0}, {"place": 1}, {"place": 2}, {"place": 3}])
    );
}

#[test]
fn a_handler_that_fails_tells_the_log_only() {
    let before = pid(runner(), PAGES);
    let failed = runner().get(&format!("{PAGES}/fails")).expect(500);
    assert_eq!(
        failed.json(),
        json!({"code": 500, "status": "Internal Server Error"})
    );
    runner().get(&format!("{PAGES}/nonsense")).expect(500);
    let broken = Request::get(&format!("{PAGES}/breaks")).send(runner().address());
    assert!(
        broken.is_err(),
        "a half answer passes for a whole one: {broken:?}"
    );
    assert_eq!(pid(runner(), PAGES), before);
    for told in [
        "a secret of the plugin",
        "pages.py",
        "broken off",
        "is no header",
    ] {
        eventually(told, SOON, || {
            runner().stderr().contains(told).then_some(())
        });
    }
}

#[test]
fn a_web_host_that_dies_is_replaced() {
    let runner = builder().start();
    for _ in 0..3 {
        let old = pid(&runner, PAGES);
        kill(Pid::from_raw(old.cast_signed()), Signal::SIGKILL).unwrap();
        assert_ne!(pid(&runner, PAGES), old);
    }
    // One that takes the request with it is an error, and the next one is answered.
    let dead = runner.get(&format!("{PAGES}/dies")).expect(502).json();
    assert_eq!(
        dead["message"],
        "The plugin pages@1-0-0 does not answer; the log of the runner says why."
    );
    pid(&runner, PAGES);
    let message = "its process ended, or closed the connection";
    eventually(message, SOON, || {
        runner.stderr().contains(message).then_some(())
    });
}

#[test]
fn a_web_host_that_cannot_start_is_an_error_with_its_cause_in_the_log() {
    for _ in 0..2 {
        let answer = runner().get("/plugins/unlucky@1-0-0/page").expect(502);
        assert!(!answer.text().contains("no luck"));
    }
    let told = |text: &str| runner().stderr().contains(text).then_some(());
    eventually("the cause", SOON, || told("no luck today"));
}

#[test]
fn a_web_host_that_nobody_needs_is_ended() {
    let mut runner = builder().env("HOST_IDLE", 0.7).start();
    let old = pid(&runner, PAGES);
    // A request in progress keeps it alive, however long it takes.
    let stream = open(&runner, &Request::get(&format!("{PAGES}/endless")));
    thread::sleep(Duration::from_millis(1500));
    assert_eq!(pid(&runner, PAGES), old);
    drop(stream);
    let left = proc::wait_until_gone(&[old], SOON);
    assert!(left.is_empty(), "the web host is still there");
    let new = pid(&runner, PAGES);
    assert_ne!(new, old);
    runner.kill9();
    assert!(proc::wait_until_gone(&[new], SOON).is_empty());
}

#[test]
fn what_is_never_answered_times_out() {
    let runner = builder().env("ROUTE_TIMEOUT", 1).start();
    let old = pid(&runner, STUCK);
    let begin = Instant::now();
    let answer = runner.get(&format!("{STUCK}/never")).expect(504).json();
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert!(
        answer["message"]
            .as_str()
            .unwrap()
            .contains("ROUTE_TIMEOUT"),
        "{answer}"
    );
    // It answered nothing else meanwhile, so it is replaced.
    assert_ne!(pid(&runner, STUCK), old);
    assert!(proc::wait_until_gone(&[old], SOON).is_empty());
    // A body that nobody takes is the plugin's silence; one that does not come is the client's.
    let large = Request::post(&format!("{STUCK}/never")).body("", vec![0; 10_000_000]);
    runner.send(&large).expect(504);
    let slow = Request::post(&format!("{STUCK}/never"));
    let slow = Request { body: None, ..slow }.header("Content-Length", "10");
    runner.send(&slow).expect(408);
    // The time is that to the first byte: a stream may go on.
    let mut stream = open(&runner, &Request::get(&format!("{PAGES}/clock?count=6")));
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        text.contains("data: 5") && text.ends_with("0\r\n\r\n"),
        "{text}"
    );
}

#[test]
fn headers_of_the_runner_stay_with_it() {
    let token = runner().token();
    let seen = |request: Request| {
        let seen = runner().send(&request).expect(200).json();
        seen["headers"].to_string() + &seen["query"].to_string()
    };
    let path = format!("{PAGES}/page/fixed/");
    let request = Request::get(&path)
        .header("Authorization", &format!("Bearer {token}"))
        .header(
            "Referer",
            &format!("{}/modules/?token={token}", runner().base()),
        )
        .header("X-Forwarded-Host", "evil.example.org")
        .header("X-Runner-Plugin", "second@1-0-0")
        .header("X-Own", "kept");
    let headers = seen(request);
    assert!(
        !headers.contains(token) && !headers.contains("evil"),
        "{headers}"
    );
    assert!(headers.contains("kept"));
    let query = seen(Request::get(&format!("{PAGES}/rest/x?a=1&token={token}")));
    assert!(query.contains(r#"[["a","1"]]"#), "{query}");
    let moved = runner().get(&format!("{PAGES}/moved"));
    assert_eq!(
        (moved.status, moved.header("Location")),
        (303, Some("page/there"))
    );
    assert_eq!(moved.header("X-Own"), Some("1"));
    assert_eq!(moved.header("Service-Worker-Allowed"), None);
    let upgrade = Request::get(&path)
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket");
    let answer = runner().send(&upgrade).expect(501).json();
    assert!(answer["message"].as_str().unwrap().contains("WebSockets"));
}

#[test]
fn other_origins_may_read_pages_as_they_may_read_plugins() {
    let origin = "http://other.example.org";
    let page = Request::get(&format!("{PAGES}/page/a")).header("Origin", origin);
    let page = runner().send(&page).expect(200);
    assert_eq!(page.header("Access-Control-Allow-Origin"), Some(origin));
    let ask = |method: &str| {
        let request = Request::new("OPTIONS", &format!("{PAGES}/rest/a"))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method);
        runner().send(&request)
    };
    let allowed = ask("GET").expect(200);
    assert_eq!(allowed.header("Access-Control-Allow-Origin"), Some(origin));
    assert_eq!(ask("DELETE").header("Access-Control-Allow-Origin"), None);
    // Without a question of a browser it is the plugin that answers.
    let options = runner().send(&Request::new("OPTIONS", &format!("{PAGES}/rest/a")));
    assert_eq!(
        options.header("Allow"),
        Some("GET, PUT, DELETE, HEAD, OPTIONS")
    );
}

#[test]
fn relative_links_lead_to_own_routes() {
    let metadata = runner().get(&format!("{PAGES}/")).expect(200).json();
    let docs = json!({"type": "docs", "href": "https://example.org/docs"});
    assert_eq!(
        metadata["links"],
        json!([{"type": "overview", "href": format!("{PAGES}/page/start")}, docs])
    );
    let task = runner().run_well("pages@1-0-0", &[]);
    let links = task["links"].as_array().unwrap();
    assert_eq!(links[2], docs);
    assert_eq!(links[1]["type"], "result");
    let href = links[1]["href"].as_str().unwrap();
    assert!(
        href.starts_with(&format!("{}{PAGES}/page/", runner().base())),
        "{href}"
    );
    assert!(href.ends_with("?from=task"), "{href}");
    runner().get(href).expect(200);
    assert_eq!(task["log"], runner().base());
}

#[test]
fn more_requests_than_fit_are_refused_and_nothing_breaks() {
    let runner = builder().start();
    pid(&runner, PAGES);
    let endless = Request::get(&format!("{PAGES}/endless"));
    let bytes = endless.to_bytes(runner.address());
    let streams: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(runner.address()).unwrap();
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream.write_all(&bytes).unwrap();
            stream
        })
        .collect();
    let statuses: Vec<String> = streams
        .iter()
        .map(|mut stream| {
            let mut head = [0; 12];
            stream.read_exact(&mut head).unwrap();
            String::from_utf8_lossy(&head[9..]).into_owned()
        })
        .collect();
    let count = |status: &str| statuses.iter().filter(|one| *one == status).count();
    assert_eq!((count("200"), count("503")), (256, 44), "{statuses:?}");
    let busy: Response = runner.get(&format!("{PAGES}/pid")).expect(503);
    assert_eq!(busy.header("Retry-After"), Some("1"));
    runner.get("/plugins/").expect(200);
    drop(streams);
    eventually("room", SOON, || {
        (runner.get(&format!("{PAGES}/pid")).status == 200).then_some(())
    });
}

/// A run of one plugin calls another over HTTP and ends; when that one has ended, its webhook wakes the step
/// that goes on.
#[test]
fn a_plugin_is_told_by_webhook_when_another_has_ended() {
    let ask = |text: &str, pause: &str| {
        let task = runner().submit("asker@1-0-0", &[("text", text), ("pause", pause)]);
        (task, runner().finished(task))
    };
    // Ended before it was asked for, about then, and long after.
    for pause in ["0", "0.02", "0.08", "0.8"] {
        let (_, task) = ask("hello", pause);
        let task = runner().successful(task);
        assert_eq!(runner().output(&task, "answer.txt"), b"HELLO");
    }
    let (number, failed) = ask("fail", "0.5");
    let log = runner().failed(&failed);
    assert!(
        log.contains("asked") && log.contains("no answer"),
        "{number}: {log}"
    );
}

#[test]
fn a_stranger_cannot_wake_the_step_too_early() {
    let task = runner().submit("asker@1-0-0", &[("text", "hello"), ("pause", "2")]);
    let waiting = |task: &Value| {
        task["steps"]
            .as_array()
            .is_some_and(|steps| !steps.is_empty())
    };
    let shown = runner().wait_for(task, "waiting", waiting);
    let href = shown["steps"][0]["href"].as_str().unwrap();
    let stranger = format!("{}/tasks/1/", runner().base());
    runner().accepted(&runner().post_form(href, &[("called", &stranger)]));
    let task = runner().successful(runner().finished(task));
    assert_eq!(runner().output(&task, "answer.txt"), b"HELLO");
    let log = task["log"].as_str().unwrap();
    assert!(log.contains("is not what this waits for"), "{log}");
}
