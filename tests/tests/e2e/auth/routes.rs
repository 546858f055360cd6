//! Every route, as its rule in the document says.

use runner_tests::{Request, Runner};
use serde_json::Value;

use super::{is_refused, required, runner, send, token};
use crate::shared::HELLO;

/// The role that an operation says it needs.
fn role(operation: &Value) -> &str {
    let security = operation["security"].as_array().expect("a rule");
    match security.first() {
        None => "public",
        Some(first) => first["bearer"][0].as_str().expect("a role"),
    }
}

/// The path with something in each of its places. Nothing is done with it: it is about who may.
fn filled(path: &str) -> String {
    let mut filled = path.to_owned();
    for (place, value) in [
        ("{identifier}", HELLO),
        ("{id}", "999999"),
        ("{task}", "999999"),
        ("{stepId}", "x"),
        ("{name}", "forms.css"),
        ("{path}", "x"),
        ("{file}", "x"),
        ("{tag}", "x"),
    ] {
        filled = filled.replace(place, value);
    }
    assert!(!filled.contains('{'), "{path} has another place");
    filled
}

#[test]
fn every_operation_is_guarded_as_the_document_says() {
    let runner = runner();
    let [viewer, user] = ["viewer", "user"].map(token);
    let document = send(runner, Request::get("/api-spec.json"), &viewer)
        .expect(200)
        .json();
    let mut guarded = 0;
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            let method = method.to_uppercase();
            let request = || Request::new(&method, &filled(path));
            let what = format!("{method} {path}");
            let role = role(operation);
            let nobody = runner.send(&request());
            if role == "public" {
                assert!(
                    !matches!(nobody.status, 401 | 403),
                    "{what}: {}",
                    nobody.status
                );
                continue;
            }
            guarded += 1;
            is_answered(&what, nobody.status, 401);
            is_answered(&what, send(runner, request(), "nonsense").status, 401);
            if role != "viewer" {
                is_answered(&what, send(runner, request(), &viewer).status, 403);
            }
            if role == "admin" {
                is_answered(&what, send(runner, request(), &user).status, 403);
            }
        }
    }
    assert!(guarded > 30, "{guarded} operations are guarded");
}

#[track_caller]
fn is_answered(what: &str, status: u16, expected: u16) {
    assert_eq!(status, expected, "{what}");
}

#[test]
fn pages_for_frames_are_open_and_what_they_send_is_not() {
    let runner = runner();
    let ui = format!("/plugins/{HELLO}/ui/");
    let page = runner.get(&ui).expect(200);
    assert!(page.header("X-Frame-Options").is_none());
    runner.get("/static/microfrontend.js").expect(200);
    is_refused(runner.post_form(&ui, &[("inputStr", "x")]), None);
    let user = token("user");
    runner
        .post_form(&format!("{ui}?token={user}"), &[("inputStr", "x")])
        .expect(200);
    // What everybody may see may have a parameter of this name.
    runner.get(&format!("{ui}?token=nonsense")).expect(200);
    // The page of the runner tells what there is to those only who may see it.
    let root = |target: &str| {
        let page = Request::get(target).header("Accept", "text/html");
        runner.send(&page).expect(200).text()
    };
    assert!(!root("/").contains("hello-world"));
    assert!(root(&format!("/?token={user}")).contains("hello-world"));
    let redoc = runner.get(&format!("/redoc/?token={user}")).expect(200);
    assert!(
        redoc
            .text()
            .contains(&format!("../api-spec.json?token={user}"))
    );
    // A browser asks whether it may before it shows the token.
    let preflight = Request::new("OPTIONS", &format!("/plugins/{HELLO}/process/"))
        .header("Origin", "null")
        .header("Access-Control-Request-Method", "POST")
        .header("Access-Control-Request-Headers", "authorization");
    let answer = runner.send(&preflight).expect(200);
    assert_eq!(
        answer.header("Access-Control-Allow-Headers"),
        Some("authorization")
    );
}

#[test]
fn a_plugin_hears_who_asks_and_not_with_what() {
    let runner: Runner = required().plugins(["tests/fixtures/routes"]).start();
    let user = token("user");
    let fixed = "/plugins/pages@1-0-0/page/fixed/";
    for answer in [
        send(&runner, Request::get(fixed), &user),
        runner.get(&format!("{fixed}?token={user}")),
    ] {
        let heard = answer.expect(200).text();
        assert!(!heard.contains(&user), "{heard}");
        assert!(heard.to_lowercase().contains("x-runner-user"), "{heard}");
        assert!(heard.contains("tester"), "{heard}");
    }
    is_refused(runner.get(fixed), None);
    let post = Request::post("/plugins/pages@1-0-0/digest");
    let answer = send(&runner, post, &token("viewer"));
    assert_eq!(answer.status, 403);
}
