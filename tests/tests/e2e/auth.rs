//! Who may ask for what, and what is refused to whom.

mod addresses;
mod keys;
mod routes;
mod tokens;

use std::sync::OnceLock;

use runner_tests::runner::{Builder, command};
use runner_tests::{Request, Response, Runner};

use crate::shared::with_all;

/// What tokens are signed with.
const SECRET: &str = "a secret for tests that is long enough";

/// A runner that requires tokens, not started.
fn required() -> Builder {
    with_all()
        .env("AUTH", "required")
        .env("AUTH_SECRET", SECRET)
        .env("AUTH_ISSUER", "tests")
        .env("AUTH_AUDIENCE", "runner")
        .env("AUTH_LEEWAY", 0)
        .env("ALLOWED_NETWORKS", "127.0.0.1")
}

/// One that all tests may use that leave it as it is.
fn runner() -> &'static Runner {
    static RUNNER: OnceLock<Runner> = OnceLock::new();
    RUNNER.get_or_init(|| required().start())
}

/// A token that `runner token` makes, with these variables instead of those of the runner.
fn token_with(role: &str, days: f64, variables: &[(&str, &str)]) -> String {
    token_of("tester", role, days, variables)
}

fn token_of(subject: &str, role: &str, days: f64, variables: &[(&str, &str)]) -> String {
    let home = runner_tests::scratch::Scratch::new();
    let mut command = command(home.path());
    command
        .args(["token", "--role", role, "--subject", subject])
        .args(["--days", &days.to_string()])
        .env("AUTH", "required")
        .env("AUTH_SECRET", SECRET)
        .env("AUTH_ISSUER", "tests")
        .env("AUTH_AUDIENCE", "runner")
        .envs(variables.iter().copied());
    let output = command.output().expect("the command");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(output.status.success() && !text.is_empty(), "{output:?}");
    text
}

/// A token of this role.
fn token(role: &str) -> String {
    token_with(role, 1.0, &[])
}

/// Sends a request with a token.
fn send(runner: &Runner, request: Request, token: &str) -> Response {
    runner.send(&request.header("Authorization", &format!("Bearer {token}")))
}

/// Checks that an answer refuses a token, and says how to show one.
#[track_caller]
fn is_refused(answer: Response, error: Option<&str>) -> String {
    let answer = answer.expect(401);
    let challenge = answer.header("WWW-Authenticate").unwrap_or_default();
    assert!(
        challenge.starts_with("Bearer realm=\"runner\""),
        "{challenge}"
    );
    match error {
        Some(problem) => {
            assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
            assert!(answer.text().contains(problem), "{}", answer.text());
        }
        None => assert!(!challenge.contains("error"), "{challenge}"),
    }
    answer.text()
}
