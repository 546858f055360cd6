//! Outputs that stand elsewhere.

use runner_tests::http::Request;
use runner_tests::{HookServer, Runner};

const CSV: &str = "ID,href\na,b\n";

fn runner() -> Runner {
    Runner::builder()
        .plugins(["stable_plugins/demo", "tests/fixtures/e2e"])
        .start()
}

#[test]
fn a_link_is_shown_as_it_is_and_is_an_input_like_any_other() {
    let (runner, server) = (runner(), HookServer::serving("text/csv", CSV));
    let url = server.url("/some/data.csv?x=1");
    let task = runner.run_well("linked@1-0-0", &[("url", &url)]);
    let output = &task["outputs"][0];
    assert_eq!(output["href"], *url);
    assert_eq!(output["name"], "data.csv", "the last part of the path");
    assert_eq!(output["contentType"], "text/csv");
    assert_eq!(output["dataType"], "entity/list");
    // Nobody wanted the content yet.
    server.expect_no_more();
    let read = runner.run_well("reads@1-0-0", &[("file", &url)]);
    assert_eq!(runner.output(&read, "read.csv"), CSV.as_bytes());
    let called = runner.run_well("calls-linked@1-0-0", &[("url", &url)]);
    assert_eq!(runner.output(&called, "read.csv"), CSV.as_bytes());
    let log = called["log"].as_str().unwrap_or_default();
    assert_eq!(log, format!("called.csv {url}"));
}

#[test]
fn deleting_a_link_leaves_what_it_leads_to() {
    let runner = runner();
    let task = runner.run_well("hello-world@v0-2-1", &[("inputStr", "x")]);
    let (_, href, content) = runner.only_output(&task);
    let link = runner.submit("linked@1-0-0", &[("url", &href), ("name", "a b.txt")]);
    let linked = runner.successful(runner.finished(link));
    assert_eq!(linked["outputs"][0]["name"], "a_b.txt");
    assert_eq!(runner.only_output(&linked).2, content);
    let delete = Request::new("DELETE", &format!("/tasks/{link}/"));
    runner.send(&delete).expect(204);
    assert_eq!(runner.only_output(&task).2, content);
}

#[test]
fn what_clients_cannot_open_is_no_link() {
    let runner = runner();
    for url in ["javascript:alert(1)", "file:///etc/passwd", "data.csv", ""] {
        let log = runner.run_badly("linked@1-0-0", &[("url", url), ("name", "x")]);
        assert!(log.contains("the output x stands nowhere"), "{url}: {log}");
    }
    let long = format!("http://a/{}", "x".repeat(17_000));
    let log = runner.run_badly("linked@1-0-0", &[("url", &long), ("name", "x")]);
    assert!(log.contains("the limit is 16384"), "{log}");
}

#[test]
fn a_link_to_an_address_that_is_refused_is_not_fetched_for_others() {
    let runner = runner();
    let url = "http://169.254.169.254/latest/";
    runner.run_well("linked@1-0-0", &[("url", url), ("name", "x")]);
    for (plugin, key) in [("reads@1-0-0", "file"), ("calls-linked@1-0-0", "url")] {
        let log = runner.run_badly(plugin, &[(key, url)]);
        assert!(
            log.contains("169.254.169.254") && log.contains("refused"),
            "{log}"
        );
    }
}
