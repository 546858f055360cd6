//! Requests that are wrong, too large or never end.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use runner_tests::http::{BOUNDARY, Part, exchange};
use runner_tests::{Request, Runner};
use serde_json::json;

use crate::shared::{HELLO, STABLE, runner};

const FORM: &str = "application/x-www-form-urlencoded";
const UPLOAD: &str = "file-upload@v0-2-0";

fn process() -> String {
    format!("/plugins/{HELLO}/process/")
}

#[test]
fn what_is_unknown_is_not_found() {
    let runner = runner();
    for path in [
        "/nope/",
        "/plugins/nope/",
        "/plugins/nope/ui/",
        "/plugins/hello-world@v9-9-9/",
        "/plugins/hello-world@v9-9-9/ui/",
        "/plugins/%FF/",
        "/plugins/..%2f..%2fetc%2fpasswd/",
        "/tasks/999999/",
        "/tasks/1e3/",
        "/tasks/%31%30%30%30%30%30%30/",
        "/files/999999/?file-id=x",
        "/files/x/?file-id=x",
    ] {
        let answer = runner.get(path);
        let status = if path.contains("%FF") {
            answer.status
        } else {
            404
        };
        assert!(matches!(status, 400 | 404), "{path}: {status}");
        answer.expect(status);
    }
    runner
        .post_form("/plugins/nope/process/", &[("inputStr", "x")])
        .expect(404);
}

#[test]
fn wrong_types_and_missing_fields_are_told_and_nothing_is_made() {
    let runner = runner();
    let before = runner.submit(HELLO, &[("inputStr", "x")]);
    let filter = "/plugins/entity-filter@v0-2-1/process/";
    let form = [
        ("inputFileUrl", ""),
        ("nRows", "many"),
        ("rowSampling", "NOPE"),
    ];
    let errors = runner.post_form(filter, &form).expect(422).json();
    assert_eq!(
        errors["errors"]["form"],
        json!({
            "attributeFilterStrategy": ["Missing data for required field."],
            "inputFileUrl": ["Field may not be null."],
            "nRows": ["Not a valid integer."],
            "rowSampling": ["Not a valid choice."],
        }),
        "{errors}"
    );
    for body in [
        json!({}),
        json!({"inputStr": null}),
        json!({"inputStr": ["a"]}),
        json!([1]),
        json!("x"),
    ] {
        let answer = runner.post_json(&process(), &body);
        assert!(
            matches!(answer.status, 400 | 422),
            "{body}: {}",
            answer.status
        );
        let status = answer.status;
        answer.expect(status);
    }
    let after = runner.submit(HELLO, &[("inputStr", "x")]);
    // Other tests share the instance, so this cannot be an equation; it bounds what was made.
    assert!(after > before);
}

#[test]
fn broken_bodies_are_bad_requests() {
    let runner = runner();
    let multipart = format!("multipart/form-data; boundary={BOUNDARY}");
    let part = format!("--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"inputStr\"\r\n\r\n");
    let cut = format!("{part}never ended");
    let broken_utf8 = [
        part.as_bytes(),
        b"\xff\xfe",
        format!("\r\n--{BOUNDARY}--\r\n").as_bytes(),
    ]
    .concat();
    let broken: [(&str, &str, &[u8]); 5] = [
        ("multipart without an end", &multipart, cut.as_bytes()),
        (
            "multipart without a beginning",
            &multipart,
            b"no boundary at all",
        ),
        (
            "multipart cut in its headers",
            &multipart,
            &part.as_bytes()[..40],
        ),
        (
            "multipart without a boundary",
            "multipart/form-data",
            part.as_bytes(),
        ),
        ("broken JSON", "application/json", b"{\"inputStr\":"),
    ];
    let no_text: [(&str, &str, &[u8]); 4] = [
        ("multipart that is no UTF-8", &multipart, &broken_utf8),
        (
            "JSON that is no UTF-8",
            "application/json",
            b"{\"inputStr\": \"\xff\"}",
        ),
        ("a form that is no UTF-8", FORM, b"inputStr=%FF%FE"),
        ("a raw form that is no UTF-8", FORM, b"inputStr=\xff\xfe"),
    ];
    let upload = format!("/plugins/{UPLOAD}/process/");
    let at_process = broken.iter().chain(&no_text).map(|case| (process(), case));
    let at_upload = broken.iter().map(|case| (upload.clone(), case));
    for (path, (what, kind, body)) in at_process.chain(at_upload) {
        let answer = runner.send(&Request::post(&path).body(kind, *body));
        assert_eq!(answer.status, 400, "{what} to {path}: {}", answer.text());
        answer.expect(400);
    }
    let answer = runner.send(&Request::post(&process()).body("text/plain", "inputStr=x"));
    let status = answer.status;
    assert!(matches!(status, 415 | 422), "{status}");
    answer.expect(status);
    runner.run_well(HELLO, &[("inputStr", "still there")]);
}

#[test]
fn broken_queries_of_forms_do_no_harm() {
    let runner = runner();
    for query in [
        "inputStr=%FF",
        "inputStr=%",
        "=&&=&inputStr",
        "inputStr=%00",
        "%=%",
    ] {
        let answer = runner.get(&format!("/plugins/{HELLO}/ui/?{query}"));
        assert!(
            matches!(answer.status, 200 | 400),
            "{query}: {}",
            answer.status
        );
    }
}

#[test]
fn a_text_may_contain_anything_that_is_text() {
    let runner = runner();
    let all = "\u{1}\u{7f}\u{2028}\u{fffd}\u{1f600} \r\n\t<script>&amp;'\"\\";
    let task = runner.run_well(HELLO, &[("inputStr", all)]);
    assert_eq!(runner.output(&task, "out.txt"), all.as_bytes());
}

#[test]
fn bodies_beyond_the_limit_are_refused() {
    let runner = runner();
    let large = vec![b'x'; 17 << 20];
    let form = [b"inputStr=".as_slice(), &large].concat();
    runner
        .send(&Request::post(&process()).body(FORM, form))
        .expect(413);
    let quoted = [b"{\"inputStr\": \"".as_slice(), &large, b"\"}"].concat();
    runner
        .send(&Request::post(&process()).body("application/json", quoted))
        .expect(413);
    let task = format!("/tasks/{}/", runner.submit(HELLO, &[("inputStr", "x")]));
    runner
        .send(&Request::post(&task).body("application/json", large))
        .expect(413);
    runner.run_well(HELLO, &[("inputStr", "still there")]);
}

#[test]
fn a_body_that_lies_about_its_length_is_refused_early() {
    let runner = runner();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {}\r\nContent-Type: {FORM}\r\nContent-Length: 99999999999\r\n\
         Connection: close\r\n\r\ninputStr=x",
        process(),
        runner.address()
    );
    let begin = Instant::now();
    let answer = exchange(runner.address(), head.into_bytes(), false);
    answer
        .expect("an answer before the body has come")
        .expect(413);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[test]
fn uploads_beyond_the_limit_are_refused_and_leave_nothing() {
    let runner = Runner::builder()
        .plugins(STABLE)
        .env("MAX_UPLOAD_SIZE", 100_000)
        .start();
    let upload = |content: &[u8]| {
        runner.post_multipart(
            &format!("/plugins/{UPLOAD}/process/"),
            &[
                Part::field("dataType", "custom/x"),
                Part::field("contentType", "text/plain"),
                Part::file("file", "x.txt", "text/plain", content),
            ],
        )
    };
    let used = || size_of(runner.instance());
    let first = runner.accepted(&upload(&[b'x'; 90_000]));
    runner.successful(runner.finished(first));
    let before = used();
    for _ in 0..20 {
        upload(&[b'x'; 200_000]).expect(413);
    }
    let grown = used().saturating_sub(before);
    assert!(
        grown < 1_000_000,
        "{grown} bytes more after uploads that were refused"
    );
    runner.accepted(&upload(b"small"));
}

/// Bytes of all files below a folder. What vanishes meanwhile does not count.
fn size_of(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.path().symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => size_of(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[test]
fn file_names_lead_nowhere() {
    let runner = runner();
    let long = "x".repeat(5000) + ".csv";
    for name in [
        "../../../../../../tmp/escaped.csv",
        "/tmp/escaped.csv",
        "..",
        ".",
        "",
        " ",
        "C:\\temp\\escaped.csv",
        "a\u{0}b.csv",
        "%2e%2e%2fescaped.csv",
        "a;b=c.csv",
        "日本.csv",
        "\u{202e}vsc.exe",
        &long,
    ] {
        let answer = runner.post_multipart(
            &format!("/plugins/{UPLOAD}/process/"),
            &[
                Part::field("dataType", "custom/x"),
                Part::field("contentType", "text/csv"),
                Part::file("file", name, "text/csv", b"ID\n1\n"),
            ],
        );
        // Some names are not even headers; an empty one may mean that no file was chosen.
        if answer.status != 303 {
            assert!(
                matches!(answer.status, 400 | 422),
                "{name:?}: {}",
                answer.status
            );
            continue;
        }
        let task = runner.finished(runner.accepted(&answer));
        if name.is_empty() && task["status"] == "FAILURE" {
            continue;
        }
        let (kept, href, content) = runner.only_output(&runner.successful(task));
        assert_eq!(content, b"ID\n1\n", "{name:?}");
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        assert!(
            kept.chars().all(plain) && kept.len() <= 200,
            "{name:?}: {kept:?}"
        );
        assert!(!matches!(&*kept, "" | "." | ".."), "{name:?}: {kept:?}");
        let answer = runner.get(&href).expect(200);
        let disposition = answer.header("Content-Disposition").unwrap_or_default();
        assert_eq!(disposition, format!("inline; filename={kept}"), "{name:?}");
    }
    assert!(!std::path::Path::new("/tmp/escaped.csv").exists());
}

#[test]
fn clients_that_never_finish_block_nobody() {
    let runner = runner();
    let connect = |text: &str| {
        let mut stream = TcpStream::connect(runner.address()).expect("cannot connect");
        stream.write_all(text.as_bytes()).expect("cannot write");
        stream
    };
    let body = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: {FORM}\r\nContent-Length: 100\r\n\r\ninputStr=",
        process()
    );
    let upload = format!(
        "POST /plugins/{UPLOAD}/process/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\
         Content-Type: multipart/form-data; boundary={BOUNDARY}\r\n\r\n--{BOUNDARY}\r\n"
    );
    let mut streams = Vec::new();
    for _ in 0..60 {
        streams.push(connect(""));
        streams.push(connect("GET /plugins/ HTTP/1.1\r\nHost: x\r\nX-Slow: "));
        streams.push(connect(&body));
        streams.push(connect(&upload));
    }
    let begin = Instant::now();
    runner.get("/plugins/").expect(200);
    let task = runner.submit(HELLO, &[("inputStr", "x")]);
    runner.task(task);
    let passed = begin.elapsed();
    assert!(passed < Duration::from_secs(3), "{passed:?}");
    runner.successful(runner.finished(task));
}
