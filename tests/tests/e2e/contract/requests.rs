//! Addresses, methods, hosts, origins, the token.

use runner_tests::{Request, Runner};
use serde_json::Value;

use crate::shared::{HARNESS, HELLO, runner};

const ORIGIN: &str = "http://localhost:4200";
const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";

#[test]
fn the_root_is_json_unless_html_is_asked_for() {
    let runner = runner();
    for accept in [
        None,
        Some("*/*"),
        Some("application/json"),
        Some("application/json, */*;q=0.1"),
    ] {
        let mut request = Request::get("/");
        if let Some(accept) = accept {
            request = request.header("Accept", accept);
        }
        let body = runner.send(&request).expect(200).json();
        assert!(body["title"].is_string(), "{accept:?}: {body}");
    }
    let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    let page = runner
        .send(&Request::get("/").header("Accept", browser))
        .expect(200);
    let kind = page.header("Content-Type").unwrap_or_default();
    assert!(kind.starts_with("text/html"), "{kind}");
    assert!(page.text().contains("<html"), "{}", page.text());
}

#[test]
fn a_missing_slash_is_redirected_for_every_method_with_the_query() {
    let runner = runner();
    let process = format!("/plugins/{HELLO}/process");
    for path in ["/plugins", "/tasks/1", "/files/1", &process] {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] {
            let request = Request::new(method, &format!("{path}?a=b%20c&d=%2F")).body("", "");
            let answer = runner.send(&request);
            assert_eq!(answer.status, 308, "{method} {path}");
            let location = format!("{}{path}/?a=b%20c&d=%2F", runner.base());
            assert_eq!(
                answer.header("Location"),
                Some(&*location),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn a_percent_encoded_at_sign_is_the_same_everywhere() {
    let runner = runner();
    let encoded = HELLO.replace('@', "%40");
    runner.get(&format!("/plugins/{encoded}/ui/")).expect(200);
    let answer = runner.post_form(
        &format!("/plugins/{encoded}/process/"),
        &[("inputStr", "x")],
    );
    runner.successful(runner.finished(runner.accepted(&answer)));
    let redirect = runner.get(&format!("/plugins/{encoded}?x=1"));
    assert_eq!(redirect.status, 308);
    let location = redirect.header("Location").unwrap_or_default();
    assert!(location.ends_with("/?x=1"), "{location}");
    runner.get(&runner.path_of(location)).expect(200);
}

#[test]
fn head_says_what_get_says_without_the_body() {
    let runner = runner();
    let task = runner.submit(HELLO, &[("inputStr", "my input")]);
    let href = runner.path_of(&runner.only_output(&runner.finished(task)).1);
    let task = format!("/tasks/{task}/");
    let ui = format!("/plugins/{HELLO}/ui/");
    for path in [
        "/",
        "/plugins/",
        &task,
        &href,
        &ui,
        "/nope/",
        "/tasks/999999/",
    ] {
        let get = runner.get(path);
        let head = runner.send(&Request::new("HEAD", path));
        assert_eq!(head.status, get.status, "{path}");
        assert!(head.body.is_empty(), "{path}");
        for name in ["Content-Type", "Content-Length", "ETag", ALLOW_ORIGIN] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
    }
}

#[test]
fn wrong_methods_are_told_the_right_ones() {
    let runner = runner();
    for (method, path, allowed) in [
        ("POST", "/plugins/".to_owned(), "GET"),
        ("PUT", "/tasks/1/".to_owned(), "POST"),
        ("POST", "/files/1/".to_owned(), "GET"),
        ("GET", format!("/plugins/{HELLO}/process/"), "POST"),
        ("PUT", format!("/plugins/{HELLO}/ui/"), "POST"),
    ] {
        let answer = runner
            .send(&Request::new(method, &path).body("", ""))
            .expect(405);
        let allow = answer.header("Allow").unwrap_or_default();
        assert!(
            allow.split(',').any(|name| name.trim() == allowed),
            "{method} {path}: {allow}"
        );
        assert!(
            !allow.split(',').any(|name| name.trim() == method),
            "{method} {path}: {allow}"
        );
    }
}

#[test]
fn foreign_host_names_are_refused() {
    let runner = runner();
    let with_host = |host: &str| runner.send(&Request::get("/plugins/").header("Host", host));
    for host in [
        "evil.example.com",
        "evil.example.com:80",
        "127.0.0.1.evil.com",
        "a b",
        ".",
    ] {
        with_host(host).expect(400);
    }
    for host in [
        "localhost",
        "localhost:1",
        "127.0.0.1:99",
        "10.1.2.3",
        "[::1]:5005",
        "runner:80",
    ] {
        let list = with_host(host).expect(200).json();
        let root = list["plugins"][0]["apiRoot"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            root.starts_with(&format!("http://{host}/plugins/")),
            "{host}: {root}"
        );
    }
}

#[test]
fn a_known_server_name_is_no_foreign_host() {
    let runner = Runner::builder()
        .plugins([HARNESS])
        .env("SERVER_NAME", "runner.example.org")
        .start();
    let with_host = |host: &str| runner.send(&Request::get("/plugins/").header("Host", host));
    with_host("runner.example.org").expect(200);
    with_host("127.0.0.1").expect(200);
    with_host("evil.example.com").expect(400);
}

#[test]
fn nobody_is_believed_what_he_forwards() {
    let runner = runner();
    let request = Request::get("/plugins/")
        .header("X-Forwarded-Host", "evil.example.com")
        .header("X-Forwarded-Proto", "https")
        .header("X-Forwarded-Prefix", "/evil");
    let list = runner.send(&request).expect(200).json();
    let root = list["plugins"][0]["apiRoot"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(root.starts_with(&runner.base()), "{root}");
}

#[test]
fn pages_of_other_origins_may_read_but_not_delete() {
    let runner = runner();
    let from = |method: &str, path: &str| Request::new(method, path).header("Origin", ORIGIN);
    for path in [
        "/",
        "/plugins/",
        "/nope/",
        "/tasks/999999/",
        "/static/forms.css",
    ] {
        let answer = runner.send(&from("GET", path));
        assert_eq!(answer.header(ALLOW_ORIGIN), Some(ORIGIN), "{path}");
        let vary = answer
            .header("Vary")
            .unwrap_or_default()
            .to_ascii_lowercase();
        assert!(vary.contains("origin"), "{path}: {vary}");
    }
    let task = format!("/tasks/{}/", runner.submit(HELLO, &[("inputStr", "x")]));
    let answer = runner.send(&from("DELETE", "/tasks/999999/"));
    assert_eq!(
        answer.header(ALLOW_ORIGIN),
        None,
        "DELETE: {}",
        answer.status
    );
    let preflight = from("OPTIONS", &task).header("Access-Control-Request-Method", "DELETE");
    let answer = runner.send(&preflight);
    let methods = answer
        .header("Access-Control-Allow-Methods")
        .unwrap_or_default();
    assert!(!methods.contains("DELETE"), "{methods}");
}

#[test]
fn modules_are_listed_to_those_who_have_the_token() {
    let runner = runner();
    let get = |header: Option<&str>| {
        let mut request = Request::get("/modules/").header("Origin", ORIGIN);
        if let Some(value) = header {
            request = request.header("Authorization", value);
        }
        runner.send(&request)
    };
    let short = format!("Bearer {}", &runner.token()[1..]);
    for wrong in [
        None,
        Some("Bearer nonsense"),
        Some("Basic dXNlcjpwdw=="),
        Some(&*short),
    ] {
        let answer = get(wrong).expect(401);
        assert!(answer.header("WWW-Authenticate").is_some(), "{wrong:?}");
        assert_eq!(answer.header(ALLOW_ORIGIN), None, "{wrong:?}");
        assert!(!answer.text().contains("harness"), "{wrong:?}");
    }
    runner.get("/modules/?token=nonsense").expect(401);

    let answer = get(Some(&format!("Bearer {}", runner.token()))).expect(200);
    assert_eq!(answer.header(ALLOW_ORIGIN), None);
    runner
        .get(&format!("/modules/?token={}", runner.token()))
        .expect(200);
    let module = runner.module("harness");
    assert_eq!(module["state"], "RUNNING", "{module:#}");
    assert_eq!(module["loader"], "python", "{module:#}");
    let plugins = module["plugins"].as_array().cloned().unwrap_or_default();
    assert!(plugins.contains(&Value::from("gate@1-0-0")), "{module:#}");
    let loader = |name: &str| runner.module(name)["loader"].as_str().map(str::to_owned);
    assert_eq!(loader("hello-world").as_deref(), Some("native"));
    assert_eq!(loader("hello-world-exec").as_deref(), Some("process"));
}

#[test]
fn the_token_is_nobody_elses_to_read() {
    let runner = runner();
    let mut folders = vec![runner.instance().to_owned()];
    let mut found = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .expect("a folder of the instance")
            .flatten()
        {
            let path = entry.path();
            let Ok(metadata) = path.symlink_metadata() else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(path);
            } else if metadata.is_file() && metadata.len() < 1024 {
                let content = std::fs::read(&path).unwrap_or_default();
                if String::from_utf8_lossy(&content).trim() == runner.token() {
                    use std::os::unix::fs::PermissionsExt;
                    let mode = metadata.permissions().mode() & 0o777;
                    assert_eq!(mode, 0o600, "{}", path.display());
                    found += 1;
                }
            }
        }
    }
    assert!(
        found > 0,
        "the token lies nowhere in {}",
        runner.instance().display()
    );
}

#[test]
fn static_files_are_served() {
    let runner = runner();
    for (path, kind) in [
        ("/static/forms.css", "text/css"),
        ("/static/microfrontend.js", "javascript"),
    ] {
        let answer = runner.get(path).expect(200);
        let found = answer.header("Content-Type").unwrap_or_default();
        assert!(found.contains(kind), "{path}: {found}");
        assert!(!answer.body.is_empty(), "{path}");
    }
    for path in [
        "/static/nope.css",
        "/static/../Cargo.toml",
        "/static/%2e%2e/Cargo.toml",
    ] {
        let status = runner.get(path).status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
}
