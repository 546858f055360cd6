//! Where inputs come from, what a plugin is told of them, and what is refused.

use runner_tests::http::Part;
use runner_tests::scratch::Scratch;
use runner_tests::{Gate, HookServer, Reply, Runner, repository};
use serde_json::{Value, json};

use crate::shared::{HARNESS, STABLE, runner};

const INSPECT: &str = "inspect@1-0-0";
const UPLOAD: &str = "file-upload@v0-2-0";
const FILTER: &str = "entity-filter@v0-2-1";
const CONVERT: &str = "entity-convert@1-0-0";

const ENTITIES: &str =
    "ID,href,color\npaintA,http://example.com/a,#8a2be2\npaintB,,\"red, \"\"dark\"\"\"\n";

/// What a plugin was told about its input.
#[track_caller]
fn seen(runner: &Runner, url: &str) -> Value {
    let task = runner.run_well(INSPECT, &[("file", url)]);
    let output = runner.output(&task, "seen.json");
    serde_json::from_slice(&output).expect("the plugin writes JSON")
}

/// Why an input was refused.
#[track_caller]
fn refused(runner: &Runner, url: &str) -> String {
    runner.run_badly(INSPECT, &[("file", url)])
}

/// Uploads a file; gives the URL of the output.
#[track_caller]
fn upload(runner: &Runner, name: &str, kind: &str, content: &[u8]) -> String {
    let task = runner.submit_multipart(
        UPLOAD,
        &[
            Part::field("dataType", "entity/list"),
            Part::field("contentType", kind),
            Part::file("file", name, kind, content),
        ],
    );
    let task = runner.successful(runner.finished(task));
    let (_, href, kept) = runner.only_output(&task);
    assert_eq!(kept, content, "an upload is kept as it is");
    href
}

fn filter_first<'a>(url: &'a str, rows: &'a str) -> [(&'a str, &'a str); 5] {
    [
        ("inputFileUrl", url),
        ("nRows", rows),
        ("rowSampling", "FIRST_N"),
        ("attributes", "href"),
        ("attributeFilterStrategy", "BLOCKLIST"),
    ]
}

#[test]
fn an_uploaded_file_is_filtered_and_converted() {
    let runner = runner();
    let uploaded = upload(runner, "entities.csv", "text/csv", ENTITIES.as_bytes());
    let task = runner.run_well(FILTER, &filter_first(&uploaded, "2"));
    let (name, href, content) = runner.only_output(&task);
    assert_eq!(name, "filtered_entities.csv");
    assert_eq!(task["outputs"][0]["contentType"], "text/csv");
    let text = String::from_utf8(content)
        .expect("entities are UTF-8")
        .replace("\r\n", "\n");
    assert_eq!(
        text,
        "ID,color\npaintA,#8a2be2\npaintB,\"red, \"\"dark\"\"\"\n"
    );

    let expected = json!([
        {"ID": "paintA", "color": "#8a2be2"},
        {"ID": "paintB", "color": "red, \"dark\""},
    ]);
    let form = [
        ("inputFileUrl", &*href),
        ("outputFormat", "application/json"),
    ];
    let task = runner.run_well(CONVERT, &form);
    let (name, _, content) = runner.only_output(&task);
    assert_eq!(name, "filtered_entities.json");
    assert_eq!(
        serde_json::from_slice::<Value>(&content).expect("it is JSON"),
        expected
    );
    assert_eq!(task["outputs"][0]["dataType"], "entity/list");
}

#[test]
fn real_entities_survive_every_format() {
    let runner = runner();
    let path = "tests/data/qhana/cluster_scatter_visualization/entity_100_points.json";
    let original = std::fs::read(repository(path)).expect("the data lies in the repository");
    let entities: Value = serde_json::from_slice(&original).expect("it is JSON");
    let count = entities.as_array().map_or(0, Vec::len);
    assert!(count >= 100, "{count}");

    let mut href = upload(
        runner,
        "entity_100_points.json",
        "application/json",
        &original,
    );
    let mut last = Vec::new();
    for format in ["application/X-lines+json", "application/json", "text/csv"] {
        let form = [("inputFileUrl", &*href), ("outputFormat", format)];
        let task = runner.run_well(CONVERT, &form);
        let (_, next, content) = runner.only_output(&task);
        if format == "application/json" {
            assert_eq!(
                serde_json::from_slice::<Value>(&content).expect("it is JSON"),
                entities
            );
        }
        (href, last) = (next, content);
    }
    let lines = String::from_utf8(last)
        .expect("it is UTF-8")
        .lines()
        .count();
    assert_eq!(lines, count + 1);
    let task = runner.run_well(FILTER, &filter_first(&href, "7"));
    let (_, _, content) = runner.only_output(&task);
    assert_eq!(String::from_utf8_lossy(&content).lines().count(), 8);
}

#[test]
fn a_plugin_is_told_what_the_web_says() {
    let runner = runner();
    let server = HookServer::with(|request| match request.path() {
        "/named" => Reply::file("text/csv", ENTITIES)
            .header(
                "Content-Disposition",
                "attachment; filename=\"real name.csv\"",
            )
            .header("X-Data-Type", "entity/list"),
        "/moved" => Reply::redirect("/folder/plain.csv"),
        _ => Reply::file("text/csv", ENTITIES),
    });
    let named = seen(runner, &server.url("/named?x=1"));
    assert_eq!(named["contentType"], "text/csv");
    assert_eq!(named["dataType"], "entity/list");
    assert_eq!(named["content"], ENTITIES);
    assert!(
        named["name"]
            .as_str()
            .unwrap_or_default()
            .contains("name.csv"),
        "{named}"
    );
    for path in ["/folder/plain.csv", "/moved"] {
        let plain = seen(runner, &server.url(path));
        assert_eq!(plain["name"], "plain.csv", "{path}");
        assert_eq!(plain["content"], ENTITIES, "{path}");
    }
}

#[test]
fn data_urls_are_inputs() {
    let runner = runner();
    for url in [
        "data:text/csv,ID%2Ca%0A1%2C2%0A",
        "data:text/csv;base64,SUQsYQoxLDIK",
    ] {
        let input = seen(runner, url);
        assert_eq!(input["content"], "ID,a\n1,2\n", "{url}");
        assert_eq!(input["contentType"], "text/csv", "{url}");
    }
    let task = runner.run_well(
        FILTER,
        &filter_first("data:text/csv,ID%2Ca%0A1%2C2%0A", "1"),
    );
    let text = String::from_utf8_lossy(&runner.only_output(&task).2).replace("\r\n", "\n");
    assert_eq!(text, "ID,a\n1,2\n");
}

#[test]
fn own_files_keep_their_types_on_the_way() {
    let runner = runner();
    let href = upload(runner, "x.csv", "text/csv", b"ID\n1\n");
    let input = seen(runner, &href);
    assert_eq!(input["contentType"], "text/csv");
    assert_eq!(input["dataType"], "entity/list");
    assert_eq!(input["name"], "x.csv");
    let log = refused(runner, &href.replace("file-id=", "file-id=x"));
    assert!(log.contains("404"), "{log}");
}

#[test]
fn files_of_this_machine_are_read_below_the_roots_only() {
    let roots = Scratch::new();
    let outside = Scratch::new();
    let inside = roots.file("in.csv", "ID\n1\n");
    let secret = outside.file("secret.txt", "secret");
    let link = roots.path().join("link.txt");
    std::os::unix::fs::symlink(&secret, &link).expect("cannot link");
    let climbing = roots.path().join("../../../etc/passwd");

    let runner = Runner::builder()
        .plugins([HARNESS])
        .arg("--file-roots")
        .arg(roots.path())
        .start();
    let url = |path: &std::path::Path| format!("file://{}", path.display());
    assert_eq!(seen(&runner, &url(&inside))["content"], "ID\n1\n");
    for path in [&secret, &link, &climbing] {
        let log = refused(&runner, &url(path));
        assert!(log.contains("below"), "it says where files may lie: {log}");
        assert!(!log.contains("secret\n") && !log.contains("root:"), "{log}");
    }
    let missing = refused(&runner, &url(&roots.path().join("missing.csv")));
    assert!(missing.contains("missing.csv"), "{missing}");

    let by_variable = Runner::builder()
        .plugins([HARNESS])
        .env("FILE_ROOTS", roots.path().display())
        .start();
    assert_eq!(seen(&by_variable, &url(&inside))["content"], "ID\n1\n");
}

#[test]
fn without_roots_no_file_of_this_machine_is_read() {
    let log = refused(runner(), "file:///etc/passwd");
    assert!(log.contains("allowed"), "{log}");
    assert!(!log.contains("root:"), "{log}");
}

#[test]
fn urls_are_rewritten_before_they_are_opened() {
    let server = HookServer::with(|request| match request.path() {
        "/mapped/moved" => Reply::redirect("http://inner.example/x.csv"),
        _ => Reply::file("text/csv", "ID\n1\n"),
    });
    let map = json!({
        "^http://never\\.example/": server.url("/mapped/"),
        "^http://inner\\.example/": server.url("/inner/"),
    });
    let runner = Runner::builder()
        .plugins([HARNESS])
        .env("URL_MAP", map)
        .start();
    assert_eq!(
        seen(&runner, "http://never.example/a.csv")["content"],
        "ID\n1\n"
    );
    assert_eq!(server.next().target, "/mapped/a.csv");
    assert_eq!(
        seen(&runner, "http://never.example/moved")["content"],
        "ID\n1\n"
    );
    let targets: Vec<_> = server
        .take(2)
        .into_iter()
        .map(|request| request.target)
        .collect();
    assert_eq!(targets, ["/mapped/moved", "/inner/x.csv"]);
}

#[test]
fn metadata_services_are_out_of_reach() {
    let runner = runner();
    let server = HookServer::with(|_| Reply::redirect("http://169.254.169.254/latest/meta-data/"));
    for url in [
        server.url("/"),
        "http://169.254.169.254/".to_owned(),
        "http://[::ffff:a9fe:a9fe]/".to_owned(),
    ] {
        let log = refused(runner, &url);
        assert!(log.contains("refused"), "{url}: {log}");
        assert!(log.contains("169.254"), "{url}: {log}");
    }
    let loops = HookServer::with(|request| Reply::redirect(&request.target));
    let log = refused(runner, &loops.url("/again"));
    assert!(log.contains("redirects"), "{log}");
}

#[test]
fn inputs_that_cannot_be_had_say_why() {
    let runner = runner();
    let server = HookServer::with(|_| Reply::status(404));
    let log = refused(runner, &server.url("/missing.csv"));
    assert!(log.contains("404") && log.contains("/missing.csv"), "{log}");
    let port = server.port();
    drop(server);
    let log = refused(
        runner,
        &format!("http://user:hidden@127.0.0.1:{port}/x?token=hidden"),
    );
    assert!(log.contains(&format!("127.0.0.1:{port}")), "{log}");
    assert!(
        !log.contains("hidden"),
        "secrets of URLs stay out of logs: {log}"
    );
}

#[test]
fn inputs_beyond_the_limit_are_refused_while_they_come() {
    let runner = Runner::builder()
        .plugins(STABLE)
        .plugins([HARNESS])
        .env("MAX_INPUT_SIZE", 1000)
        .start();
    let fits = HookServer::serving("text/plain", "x".repeat(1000));
    assert_eq!(seen(&runner, &fits.url("/"))["size"], 1000);
    let announced = HookServer::serving("text/plain", "x".repeat(1001));
    let endless = HookServer::with(|_| Reply::endless());
    let data = format!("data:text/plain,{}", "x".repeat(1001));
    for url in [announced.url("/"), endless.url("/"), data] {
        let log = refused(&runner, &url);
        assert!(log.contains("1000"), "it names the limit: {log}");
    }
    let form = [
        ("inputFileUrl", &*announced.url("/")),
        ("outputFormat", "text/csv"),
    ];
    let log = runner.run_badly(CONVERT, &form);
    assert!(log.contains("1000"), "{log}");
}

#[test]
fn a_plugin_is_told_where_its_input_comes_from_unless_that_is_the_input_itself() {
    let runner = runner();
    let server = HookServer::serving("text/plain", "x");
    let url = server.url("/x.txt");
    assert_eq!(seen(runner, &url)["url"], url);
    for url in ["data:text/plain,x", "DATA:text/plain,x"] {
        let seen = seen(runner, url);
        assert_eq!(seen["content"], "x");
        assert_eq!(seen["url"], Value::Null);
    }
}

#[test]
fn a_slow_input_holds_up_its_task_alone() {
    let runner = runner();
    let gate = Gate::new();
    let reply = Reply::file("text/plain", "late").behind(&gate);
    let server = HookServer::with(move |_| reply.clone());
    let slow = runner.submit(INSPECT, &[("file", &server.url("/late.txt"))]);
    server.next();
    assert_eq!(seen(runner, "data:text/plain,quick")["content"], "quick");
    assert_eq!(runner.task(slow)["status"], "PENDING");
    gate.open();
    let task = runner.successful(runner.finished(slow));
    let output: Value =
        serde_json::from_slice(&runner.output(&task, "seen.json")).expect("the plugin writes JSON");
    assert_eq!(output["content"], "late");
}
