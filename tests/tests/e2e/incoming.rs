//! Limits of requests, slow clients, proxies, hosts, origins.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use runner_tests::http::{Part, exchange, read_response};
use runner_tests::wait::poll;
use runner_tests::{Request, Runner, eventually};

use crate::shared::{HELLO, Held, STABLE, runner, with_all};

/// How long a client may be silent in these tests.
const SILENCE: Duration = Duration::from_millis(700);
/// How much longer it may take on a busy machine until it is noticed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A runner that has no patience.
fn impatient() -> Runner {
    Runner::builder()
        .plugins(STABLE)
        .env("CLIENT_TIMEOUT", SILENCE.as_secs_f64())
        .env("UPLOAD_TIMEOUT", 3)
        .start()
}

fn connect(runner: &Runner) -> TcpStream {
    let stream = TcpStream::connect(runner.address()).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn upload_head(runner: &Runner, length: usize) -> String {
    format!(
        "POST /plugins/{HELLO}/process/ HTTP/1.1\r\nHost: {}\r\nContent-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n",
        runner.address()
    )
}

#[test]
fn slow_clients_are_cut() {
    let runner = impatient();
    // Silent in the head, before it, and between two requests.
    let whole = format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", runner.address());
    for (sent, answers) in [("GET / HT", 0), ("", 0), (&*whole, 1)] {
        let mut stream = connect(&runner);
        let begin = Instant::now();
        stream.write_all(sent.as_bytes()).expect("sent");
        let mut received = Vec::new();
        stream
            .read_to_end(&mut received)
            .expect("the end of the connection");
        let received = String::from_utf8_lossy(&received);
        assert_eq!(
            received.matches("HTTP/1.1 200 OK").count(),
            answers,
            "{sent:?}: {received}"
        );
        assert!(
            begin.elapsed() >= SILENCE,
            "{sent:?} after {:?}",
            begin.elapsed()
        );
    }
    // Silent in the body.
    let mut stream = connect(&runner);
    stream
        .write_all(upload_head(&runner, 100).as_bytes())
        .expect("sent");
    stream.write_all(b"inputStr=").expect("sent");
    let answer = read_response(&stream, false)
        .expect("an answer")
        .expect(408);
    assert!(
        answer.text().contains("CLIENT_TIMEOUT"),
        "{}",
        answer.text()
    );
    let mut rest = Vec::new();
    stream
        .read_to_end(&mut rest)
        .expect("the end of the connection");
    // Never silent, and never done.
    let mut stream = connect(&runner);
    stream
        .write_all(upload_head(&runner, 1000).as_bytes())
        .expect("sent");
    let mut reader = stream.try_clone().expect("a second handle");
    let dripping = std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(SILENCE / 4);
        }
    });
    let answer = read_response(&mut reader, false)
        .expect("an answer")
        .expect(408);
    assert!(
        answer.text().contains("UPLOAD_TIMEOUT"),
        "{}",
        answer.text()
    );
    drop(reader.shutdown(std::net::Shutdown::Both));
    dripping.join().expect("the end of the drops");
    runner.get("/plugins/").expect(200);
}

#[test]
fn who_does_not_take_an_answer_is_cut() {
    let runner = impatient();
    // More than the buffers of the kernel hold.
    let large = vec![b'x'; 48 << 20];
    let task = runner.submit_multipart(
        "file-upload@v0-2-0",
        &[
            Part::file("file", "large.bin", "application/octet-stream", &large),
            Part::field("dataType", "custom/large"),
            Part::field("contentType", "application/octet-stream"),
        ],
    );
    let task = runner.finished(task);
    let href = task["outputs"][0]["href"]
        .as_str()
        .unwrap_or_else(|| runner.fail(&task.to_string()));
    let mut stream = connect(&runner);
    let request = Request::get(&runner.path_of(href)).to_bytes(runner.address());
    stream.write_all(&request).expect("sent");
    // The file is open as long as somebody is waited for.
    let is_open = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", runner.pid())).expect("its files");
        let targets = links.flatten().map(|link| std::fs::read_link(link.path()));
        let mut targets = targets.flatten();
        targets.any(|target| target.starts_with(runner.instance().join("files")))
    };
    let begun = poll(PATIENCE, || is_open().then_some(()));
    begun.unwrap_or_else(|| runner.fail("the file was never open"));
    let cut = poll(PATIENCE, || (!is_open()).then_some(()));
    cut.unwrap_or_else(|| runner.fail("the answer is still held"));
    let mut received = Vec::new();
    // It may end in a reset.
    let _ = stream.read_to_end(&mut received);
    assert!(
        received.len() < large.len(),
        "{} bytes came",
        received.len()
    );
}

#[test]
fn more_requests_than_the_limit_are_503() {
    let runner = with_all().env("MAX_REQUESTS", 2).start();
    let held = Held::start(&runner);
    let path = format!("/tasks/{}/?wait=30", held.task);
    let get = |path: &str| {
        Request::get(path)
            .header("Origin", "https://ui.example.org")
            .header("X-Request-Id", "client-7")
    };
    // One of them is too many, whichever comes last.
    let mut waiting: Vec<TcpStream> = (0..3)
        .map(|_| {
            let mut stream = connect(&runner);
            let request = get(&path).to_bytes(runner.address());
            stream.write_all(&request).expect("sent");
            stream
        })
        .collect();
    let is_answered = |stream: &TcpStream| {
        stream.set_nonblocking(true).expect("set");
        let answered = stream.peek(&mut [0]).is_ok();
        stream.set_nonblocking(false).expect("set");
        answered
    };
    let refused = poll(PATIENCE, || waiting.iter().position(is_answered))
        .unwrap_or_else(|| runner.fail("no request was refused"));
    let refused = read_response(&waiting.remove(refused), false)
        .expect("an answer")
        .expect(503);
    assert_eq!(refused.header("Retry-After"), Some("1"));
    assert_eq!(
        refused.header("Access-Control-Allow-Origin"),
        Some("https://ui.example.org")
    );
    assert!(
        refused.text().contains("too many requests"),
        "{}",
        refused.text()
    );
    let told = eventually("the refusal is in the log", Duration::from_secs(10), || {
        let log = runner.stderr();
        let told = log.lines().find(|line| line.contains("MAX_REQUESTS"));
        told.map(str::to_owned)
    });
    assert!(told.contains("client-7"), "{told}");
    held.open();
    for stream in waiting {
        read_response(&stream, false)
            .expect("an answer")
            .expect(200);
    }
    runner.send(&get("/plugins/")).expect(200);
}

#[test]
fn heads_have_a_limit() {
    let runner = runner();
    for headers in [1, 99] {
        let request = (1..headers).fold(Request::get("/"), |request, number| {
            request.header(&format!("X-Header-{number}"), "x")
        });
        // Host and Connection are among them.
        let expected = if headers < 99 { 200 } else { 431 };
        let request = match expected {
            200 => request,
            _ => request.header("X-One", "x").header("X-Too-Many", "x"),
        };
        assert_eq!(runner.send(&request).status, expected, "{headers} headers");
    }
    let long = Request::get("/").header("X-Long", &"x".repeat(30_000));
    runner.send(&long).expect(200);
    let longer = Request::get("/").header("X-Long", &"x".repeat(100_000));
    let bytes = longer.to_bytes(runner.address());
    if let Ok(answer) = exchange(runner.address(), bytes, false) {
        assert_eq!(answer.status, 431);
    }
    runner.get("/plugins/").expect(200);
}

#[test]
fn every_answer_has_a_number_and_says_what_browsers_may_do() {
    let runner = runner();
    let given = Request::get("/plugins/").header("X-Request-Id", "client-7");
    let answer = runner.send(&given).expect(200);
    assert_eq!(answer.header("X-Request-Id"), Some("client-7"));
    let unusable = Request::get("/nope/").header("X-Request-Id", "a b\"c");
    let answer = runner.send(&unusable).expect(404);
    let made = answer.header("X-Request-Id").expect("a number");
    assert!(made != "a b\"c" && made.len() > 8, "{made}");
    for (path, frame) in [
        ("/", Some("SAMEORIGIN")),
        ("/tasks/", Some("SAMEORIGIN")),
        ("/plugins/", None),
        ("/plugins/nope/ui/", None),
        ("/files/999999/?file-id=x", None),
        ("/nope", Some("SAMEORIGIN")),
    ] {
        let answer = runner.get(path);
        assert_eq!(
            answer.header("X-Content-Type-Options"),
            Some("nosniff"),
            "{path}"
        );
        assert_eq!(
            answer.header("Referrer-Policy"),
            Some("same-origin"),
            "{path}"
        );
        assert_eq!(answer.header("X-Frame-Options"), frame, "{path}");
        assert!(answer.header("X-Request-Id").is_some(), "{path}");
    }
}

#[test]
fn hosts_and_origins_can_be_listed() {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("ALLOWED_HOSTS", "runner.example.org, *.internal")
        .env("PUBLIC_URL", "https://public.example.org/runner")
        .env("CORS_ORIGINS", "https://ui.example.org")
        .start();
    for (host, status) in [
        ("runner.example.org", 200),
        ("a.internal:8080", 200),
        ("public.example.org", 200),
        ("localhost", 200),
        ("evil.example.org", 400),
        ("runner", 400),
        ("10.0.0.1", 400),
    ] {
        let answer = runner.send(&Request::get("/plugins/").header("Host", host));
        assert_eq!(answer.status, status, "{host}");
        if status == 400 {
            let text = answer.expect(400).text();
            assert!(text.contains("ALLOWED_HOSTS"), "{text}");
        }
    }
    for (origin, allowed) in [
        ("https://ui.example.org", Some("https://ui.example.org")),
        ("https://evil.example.org", None),
        ("null", None),
    ] {
        for method in ["GET", "OPTIONS"] {
            let request = Request::new(method, "/plugins/")
                .header("Origin", origin)
                .header("Access-Control-Request-Method", "GET");
            let answer = runner.send(&request).expect(200);
            assert_eq!(
                answer.header("Access-Control-Allow-Origin"),
                allowed,
                "{method} {origin}"
            );
            assert!(
                answer
                    .header("Vary")
                    .is_some_and(|vary| vary.contains("Origin"))
            );
        }
    }
    assert_eq!(
        runner
            .get("/plugins/")
            .header("Access-Control-Allow-Origin"),
        None
    );
}

#[test]
fn what_a_proxy_says_reaches_every_url() {
    let runner = Runner::builder()
        .plugins(STABLE)
        .env("REVERSE_PROXY_COUNT", 1)
        .env("SERVER_NAME", "public.example.org")
        .start();
    let proxied = |request: Request| {
        let request = request
            .header("X-Forwarded-Host", "public.example.org")
            .header("X-Forwarded-Proto", "https")
            .header("X-Forwarded-Prefix", "/runner")
            .header("X-Forwarded-For", "6.6.6.6, 1.2.3.4");
        runner.send(&request)
    };
    let base = "https://public.example.org/runner";
    let moved = proxied(Request::get("/plugins?x=1")).expect(308);
    assert_eq!(
        moved.header("Location"),
        Some(&*format!("{base}/plugins/?x=1"))
    );
    let plugins = proxied(Request::get("/plugins/")).expect(200).json();
    let root = plugins["plugins"][0]["apiRoot"]
        .as_str()
        .unwrap_or_default();
    assert!(root.starts_with(base), "{root}");
    let document = proxied(Request::get("/api-spec.json")).expect(200).json();
    assert_eq!(document["servers"][0]["url"], base);
    let process = format!("/plugins/{HELLO}/process/");
    let answer = proxied(Request::post(&process).form(&[("inputStr", "x")])).expect(303);
    let location = answer.header("Location").unwrap_or_default().to_owned();
    assert!(location.starts_with("/runner/tasks/"), "{location}");
    let task = runner.accepted(&answer);
    runner.finished(task);
    let task = proxied(Request::get(&format!("/tasks/{task}/")))
        .expect(200)
        .json();
    for href in [&task["outputs"][0]["href"], &task["links"][0]["href"]] {
        assert!(
            href.as_str().is_some_and(|href| href.starts_with(base)),
            "{task:#}"
        );
    }
    let form = proxied(Request::get(&format!("/plugins/{HELLO}/ui/")))
        .expect(200)
        .text();
    assert!(form.contains("\"/runner/static/forms.css\""), "{form}");
}
