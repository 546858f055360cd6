//! Tokens of every kind that is wrong, and what the right ones allow.

use std::time::Duration;

use runner_tests::http::exchange;
use runner_tests::{Request, Runner};
use serde_json::Value;

use super::{SECRET, is_refused, required, runner, send, token, token_of, token_with};
use crate::shared::{HELLO, with_all};

#[test]
fn every_wrong_token_is_401_and_says_why() {
    let runner = runner();
    let right = token("admin");
    let parts: Vec<&str> = right.split('.').collect();
    let [header, claims, signature] = parts[..] else {
        panic!("no token: {right}");
    };
    let other_secret = [("AUTH_SECRET", "another secret that is long enough!")];
    // {"alg":"none"}, {"alg":"HS512"}, {"alg":"RS256"}, {"alg":"HS256","crit":["x"]}
    let (none, hs512, rs256) = (
        "eyJhbGciOiJub25lIn0",
        "eyJhbGciOiJIUzUxMiJ9",
        "eyJhbGciOiJSUzI1NiJ9",
    );
    // Its last character stays where it is: some of its bits must be zero.
    let (front, last) = signature.split_at(signature.len() - 1);
    let turned: String = front.chars().rev().chain(last.chars()).collect();
    let cut = &signature[..signature.len() / 4 * 2];
    for (wrong, problem) in [
        (token_with("admin", 0.0, &[]), "has expired"),
        (token_with("admin", 1.0, &other_secret), "signature"),
        (
            token_with("admin", 1.0, &[("AUTH_AUDIENCE", "x")]),
            "another audience",
        ),
        (token_with("admin", 1.0, &[("AUTH_AUDIENCE", "")]), "aud"),
        (
            token_with("admin", 1.0, &[("AUTH_ISSUER", "x")]),
            "another issuer",
        ),
        (format!("{none}.{claims}."), "no JSON Web Token"),
        (format!("{none}.{claims}.{signature}"), "no JSON Web Token"),
        (
            format!("{hs512}.{claims}.{signature}"),
            "not signed with HS256",
        ),
        (
            format!("{rs256}.{claims}.{signature}"),
            "not signed with HS256",
        ),
        (format!("{header}.{claims}.{turned}"), "signature"),
        (format!("{header}.{claims}.{cut}"), "signature"),
        (format!("{header}.{claims}."), "signature"),
        (format!("{header}.{claims}"), "no JSON Web Token"),
        (right[..right.len() / 2].to_owned(), "no JSON Web Token"),
        ("x".repeat(20_000), "the limit is 16384"),
        ("nonsense".to_owned(), "no JSON Web Token"),
        ("a.b.c".to_owned(), "no JSON Web Token"),
    ] {
        let get = || Request::get("/tasks/");
        // An expired one was made this second.
        let answer = match problem {
            "has expired" => runner_tests::wait::poll(Duration::from_secs(5), || {
                let answer = send(runner, get(), &wrong);
                (answer.status == 401).then_some(answer)
            })
            .expect("an expired token is refused"),
            _ => send(runner, get(), &wrong),
        };
        is_refused(answer, Some(problem));
        is_refused(
            send(runner, Request::get("/plugins/"), &wrong),
            Some(problem),
        );
    }
    is_refused(runner.get("/plugins/"), None);
    is_refused(
        runner.get("/plugins/?token=nonsense"),
        Some("no JSON Web Token"),
    );
    let basic = Request::get("/plugins/").header("Authorization", "Basic dXNlcjpwdw==");
    is_refused(runner.send(&basic), None);
}

#[test]
fn a_token_of_a_megabyte_ends_nothing() {
    let runner = runner();
    let long = "x".repeat(1 << 20);
    for request in [
        Request::get("/plugins/").header("Authorization", &format!("Bearer {long}")),
        Request::get(&format!("/plugins/?token={long}")),
    ] {
        // The head is refused before it is whole, so that sending the rest may fail.
        let bytes = request.to_bytes(runner.address());
        if let Ok(answer) = exchange(runner.address(), bytes, false) {
            assert!(
                matches!(answer.status, 400 | 414 | 431),
                "{}",
                answer.status
            );
        }
    }
    send(runner, Request::get("/plugins/"), &token("viewer")).expect(200);
}

#[test]
fn roles_allow_what_they_say() {
    let runner = runner();
    let [viewer, user, admin] = ["viewer", "user", "admin"].map(token);
    let process = format!("/plugins/{HELLO}/process/");
    let submit = || Request::post(&process).form(&[("inputStr", "x")]);
    let refused = send(runner, submit(), &viewer).expect(403);
    let challenge = refused.header("WWW-Authenticate").unwrap_or_default();
    assert!(challenge.contains("insufficient_scope"), "{challenge}");
    let message = refused.json()["message"].to_string();
    assert!(
        message.contains("role user; the token has the role viewer"),
        "{message}"
    );
    let task = runner.accepted(&send(runner, submit(), &user));
    let path = format!("/tasks/{task}/");
    let done = runner_tests::wait::poll(Duration::from_secs(30), || {
        let task = send(runner, Request::get(&path), &viewer)
            .expect(200)
            .json();
        (task["status"] == "SUCCESS").then_some(task)
    });
    let done = done.unwrap_or_else(|| runner.fail("the task did not end"));
    // Who has the URL of a file needs nothing else; who has it not learns nothing.
    let href = done["outputs"][0]["href"].as_str().expect("a file");
    runner.get(href).expect(200);
    let (file, _) = href.split_once('?').expect("a tag");
    runner.get(&format!("{file}?file-id=wrong")).expect(404);
    is_refused(runner.get(&path), None);
    is_refused(runner.get(&format!("{path}events")), None);
    let events = runner
        .get(&format!("{path}events?token={viewer}"))
        .expect(200);
    assert!(events.text().contains("SUCCESS"), "{}", events.text());
    send(runner, Request::get("/modules/"), &user).expect(403);
    send(runner, Request::get("/modules/"), &admin).expect(200);
    runner
        .get(&format!("/modules/?token={}", runner.token()))
        .expect(200);
    send(runner, Request::new("DELETE", &path), &viewer).expect(403);
    let own = runner.token();
    let answer = send(runner, Request::new("DELETE", &path), own);
    assert_eq!(answer.status, 204);
}

#[test]
fn the_idempotency_key_of_one_user_is_not_that_of_another() {
    let runner = runner();
    let [ada, bob] = ["ada", "bob"].map(|subject| token_of(subject, "user", 1.0, &[]));
    let submit = |token: &str| {
        let request = Request::post(&format!("/plugins/{HELLO}/process/"))
            .form(&[("inputStr", "x")])
            .header("Idempotency-Key", "1");
        runner.accepted(&send(runner, request, token))
    };
    let first = submit(&ada);
    assert_ne!(submit(&bob), first);
    assert_eq!(submit(&ada), first);
}

#[test]
fn where_tokens_are_optional_a_wrong_one_is_still_wrong() {
    let runner = with_all()
        .env("AUTH", "optional")
        .env("AUTH_SECRET", SECRET)
        .start();
    let variables = [("AUTH_ISSUER", ""), ("AUTH_AUDIENCE", "")];
    let made = |role: &str| token_with(role, 1.0, &variables);
    let task = runner.submit(HELLO, &[("inputStr", "x")]);
    runner.finished(task);
    is_refused(runner.get("/modules/"), None);
    let wrong = token_with(
        "admin",
        1.0,
        &[("AUTH_SECRET", "another secret that is long enough!")],
    );
    for path in ["/plugins/", "/modules/", "/static/forms.css"] {
        is_refused(send(&runner, Request::get(path), &wrong), Some("signature"));
    }
    send(&runner, Request::get("/modules/"), &made("admin")).expect(200);
    send(&runner, Request::get("/modules/"), &made("user")).expect(403);
    // It takes nothing away that others may.
    let submit = Request::post(&format!("/plugins/{HELLO}/process/")).form(&[("inputStr", "x")]);
    let answer = send(&runner, submit, &made("viewer"));
    runner.accepted(&answer);
}

#[test]
fn commands_show_the_token_of_the_folder_or_the_one_that_is_set() {
    let runner = required().start();
    let list = |variables: &[(&str, &str)], url: bool| {
        let mut command = runner_tests::runner::command(runner.home());
        command.args(["task", "list", "--json"]);
        if url {
            command.args(["--url", &runner.base()]);
        }
        command.envs(variables.iter().copied());
        let output = command.output().expect("the command");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let tasks: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        (tasks.filter(|_| output.status.success()), error)
    };
    let folder = runner.instance().to_string_lossy().into_owned();
    for (variables, url, is_let_in) in [
        (
            vec![("RUNNER_INSTANCE_FOLDER", folder.as_str())],
            false,
            true,
        ),
        (
            vec![("RUNNER_INSTANCE_FOLDER", folder.as_str())],
            true,
            true,
        ),
        (vec![("RUNNER_INSTANCE_FOLDER", "elsewhere")], true, false),
        (
            vec![
                ("RUNNER_INSTANCE_FOLDER", "elsewhere"),
                ("RUNNER_TOKEN", &token("viewer")),
            ],
            true,
            true,
        ),
        (vec![("RUNNER_TOKEN", "nonsense")], true, false),
    ] {
        let (tasks, error) = list(&variables, url);
        assert_eq!(tasks.is_some(), is_let_in, "{variables:?}: {error}");
        if !is_let_in {
            assert!(error.contains("RUNNER_TOKEN"), "{error}");
        }
    }
}

#[test]
fn a_runner_that_others_reach_says_so() {
    let open = || {
        Runner::builder()
            .plugins(["stable_plugins/demo"])
            .arg("--host")
            .arg("0.0.0.0")
    };
    let refusal = open().expect_refusal();
    for part in ["0.0.0.0", "AUTH is not set", "AUTH=required", "AUTH=off"] {
        assert!(refusal.stderr.contains(part), "{}", refusal.stderr);
    }
    open().env("AUTH", "off").start();
    let runner = open()
        .env("AUTH", "required")
        .env("AUTH_SECRET", SECRET)
        .start();
    is_refused(runner.get("/plugins/"), None);
}
