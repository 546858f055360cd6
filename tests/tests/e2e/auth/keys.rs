//! The keys that tokens are checked with: those that are none, and those that are published.

use runner_tests::{HookServer, Reply, Request, Runner};

use super::{SECRET, is_refused, send, token};

#[test]
fn wrong_and_missing_variables_are_named_with_what_was_expected() {
    for (variables, parts) in [
        (
            vec![("AUTH", "yes")],
            vec!["AUTH is \"yes\"", "expected off, optional or required"],
        ),
        (
            vec![("AUTH", "required")],
            vec!["AUTH is \"required\"", "expected one of AUTH_SECRET"],
        ),
        (
            vec![("AUTH", "optional")],
            vec!["AUTH is \"optional\"", "AUTH_JWKS_URL"],
        ),
        (
            vec![("AUTH_SECRET", SECRET)],
            vec!["AUTH_SECRET is set", "AUTH is not: set AUTH=required"],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_SECRET", SECRET),
                ("AUTH_JWKS_URL", "http://x/"),
            ],
            vec!["AUTH_SECRET", "AUTH_JWKS_URL", "both set", "expected one"],
        ),
        (
            vec![("AUTH", "required"), ("AUTH_SECRET", "short")],
            vec!["AUTH_SECRET", "5 bytes", "at least 32"],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_PUBLIC_KEY", "/nowhere/key.pem"),
            ],
            vec![
                "AUTH_PUBLIC_KEY is \"/nowhere/key.pem\"",
                "no file that can be read",
            ],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_PUBLIC_KEY", "-----BEGIN PUBLIC KEY-----"),
            ],
            vec!["AUTH_PUBLIC_KEY", "expected an RSA"],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_JWKS_URL", "id.example.org/keys"),
            ],
            vec!["AUTH_JWKS_URL", "https://id.example.org/keys"],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_SECRET", SECRET),
                ("AUTH_LEEWAY", "9999"),
            ],
            vec!["AUTH_LEEWAY is 9999 s", "expected 0 to 600"],
        ),
        (
            vec![
                ("AUTH", "required"),
                ("AUTH_SECRET", SECRET),
                ("AUTH_ROLES_CLAIM", ""),
            ],
            vec!["AUTH_ROLES_CLAIM is empty", "such as roles"],
        ),
        (
            vec![("ALLOWED_NETWORKS", "10.0.0.0/99")],
            vec!["ALLOWED_NETWORKS", "\"10.0.0.0/99\""],
        ),
        (
            vec![("ALLOWED_HOSTS", "http://a")],
            vec!["ALLOWED_HOSTS", "\"http://a\"", "expected"],
        ),
        (
            vec![("CORS_ORIGINS", "a.org")],
            vec!["CORS_ORIGINS", "\"a.org\"", "expected"],
        ),
        (
            vec![("PUBLIC_URL", "a.org")],
            vec!["PUBLIC_URL is \"a.org\"", "expected one such as"],
        ),
        (
            vec![("MAX_REQUESTS", "0")],
            vec!["MAX_REQUESTS is 0", "expected 1 or more"],
        ),
        (
            vec![("MAX_HEAD_SIZE", "10")],
            vec!["MAX_HEAD_SIZE is 10", "expected 8192"],
        ),
        (
            vec![("CLIENT_TIMEOUT", "0")],
            vec!["CLIENT_TIMEOUT is 0 s", "expected more"],
        ),
        (
            vec![("UPLOAD_TIMEOUT", "long")],
            vec!["UPLOAD_TIMEOUT is \"long\""],
        ),
    ] {
        let builder = variables
            .iter()
            .fold(Runner::builder(), |builder, (name, value)| {
                builder.env(name, value)
            });
        let refusal = builder.expect_refusal();
        for part in parts {
            assert!(
                refusal.stderr.contains(part),
                "{variables:?}: {}",
                refusal.stderr
            );
        }
    }
}

#[test]
fn published_keys_that_are_not_there_are_503_and_in_the_log() {
    for (reply, problem) in [
        (Reply::file("text/html", "<html>"), "no JSON"),
        (
            Reply::file("application/json", "{\"keys\": []}"),
            "none of the 0 keys",
        ),
        (Reply::status(500), "answered 500"),
    ] {
        let provider = HookServer::with(move |_| reply.clone());
        let url = provider.url("/keys");
        not_there(&url, problem);
    }
    not_there("http://127.0.0.1:1/keys", "refused");
}

fn not_there(url: &str, problem: &str) {
    let runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("AUTH", "required")
        .env("AUTH_JWKS_URL", url)
        .start();
    for _ in 0..3 {
        let answer = send(&runner, Request::get("/plugins/"), &token("user")).expect(503);
        assert!(answer.header("Retry-After").is_some());
        assert!(
            answer.text().contains("cannot be fetched"),
            "{}",
            answer.text()
        );
    }
    // Who shows no token, or none that could be one, needs no keys to be refused.
    is_refused(runner.get("/plugins/"), None);
    is_refused(
        send(&runner, Request::get("/plugins/"), "x"),
        Some("no JSON Web Token"),
    );
    // The owner is let in, to see what is wrong.
    runner
        .get(&format!("/modules/?token={}", runner.token()))
        .expect(200);
    let log = runner.stderr();
    assert!(
        log.contains("AUTH_JWKS_URL") && log.contains(problem),
        "{log}"
    );
    let told = log.matches("AUTH_JWKS_URL").count();
    assert!(told < 4, "told {told} times");
}
