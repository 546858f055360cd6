//! Downloads: conditions, ranges, what is said about them.

use std::sync::OnceLock;

use runner_tests::{Request, Response};
use serde_json::Value;

use crate::shared::{HELLO, runner};

/// The URL of a file with the content `my output`.
fn href() -> &'static str {
    static HREF: OnceLock<String> = OnceLock::new();
    HREF.get_or_init(|| {
        let task = runner().run_well(HELLO, &[("inputStr", "my input")]);
        runner().path_of(&runner().only_output(&task).1)
    })
}

fn get(headers: &[(&str, &str)]) -> Response {
    let plain = Request::get(href());
    let request = headers
        .iter()
        .fold(plain, |request, (name, value)| request.header(name, value));
    runner().send(&request)
}

#[test]
fn files_say_what_they_are() {
    let answer = get(&[]).expect(200);
    assert_eq!(answer.body, b"my output");
    assert_eq!(
        answer.header("X-Data-Type"),
        Some("custom/hello-world-output")
    );
    assert_eq!(answer.header("Content-Type"), Some("text/plain"));
    assert_eq!(
        answer.header("Content-Disposition"),
        Some("inline; filename=out.txt")
    );
    assert_eq!(answer.header("Cache-Control"), Some("no-cache"));
    assert_eq!(answer.header("Accept-Ranges"), Some("bytes"));
    assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
}

#[test]
fn unchanged_files_are_not_sent_again() {
    let first = get(&[]).expect(200);
    let etag = first.header("ETag").expect("files have an ETag");
    let modified = first.header("Last-Modified").expect("files have a date");
    let weak = format!("W/{}", etag.trim_start_matches("W/"));
    let list = format!("\"other\", {etag}");
    for value in [etag, "*", &weak, &list] {
        let answer = get(&[("If-None-Match", value)]);
        assert_eq!(answer.status, 304, "{value}");
        assert!(answer.body.is_empty());
        assert_eq!(answer.header("ETag"), Some(etag));
    }
    assert_eq!(
        get(&[("If-None-Match", "\"other\"")]).expect(200).body,
        b"my output"
    );
    assert_eq!(get(&[("If-Modified-Since", modified)]).status, 304);
    let answer = get(&[
        ("If-None-Match", "\"other\""),
        ("If-Modified-Since", modified),
    ]);
    assert_eq!(answer.status, 200, "If-None-Match counts alone");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(get(&[("If-Modified-Since", old)]).status, 200);
}

#[test]
fn parts_of_files_are_sent() {
    for (range, content, part) in [
        ("bytes=0-3", "my o", "bytes 0-3/9"),
        ("bytes=0-0", "m", "bytes 0-0/9"),
        ("bytes=3-", "output", "bytes 3-8/9"),
        ("bytes=-3", "put", "bytes 6-8/9"),
        ("bytes=-100", "my output", "bytes 0-8/9"),
        ("bytes=3-1000", "output", "bytes 3-8/9"),
    ] {
        let answer = get(&[("Range", range)]).expect(206);
        assert_eq!(answer.text(), content, "{range}");
        assert_eq!(answer.header("Content-Range"), Some(part), "{range}");
        assert_eq!(
            answer.header("Content-Length"),
            Some(&*content.len().to_string()),
            "{range}"
        );
    }
    for range in ["bytes=9-", "bytes=100-200", "bytes=-0"] {
        let answer = get(&[("Range", range)]).expect(416);
        assert_eq!(answer.header("Content-Range"), Some("bytes */9"), "{range}");
    }
    for range in ["bytes=abc", "bytes=3-1", "lines=0-1", "bytes"] {
        assert_eq!(
            get(&[("Range", range)]).expect(200).body,
            b"my output",
            "{range}"
        );
    }
    // Several ranges may be answered with the whole.
    let several = get(&[("Range", "bytes=0-1,3-4")]);
    assert!(matches!(several.status, 200 | 206), "{}", several.status);
}

#[test]
fn a_part_of_another_version_is_the_whole() {
    let first = get(&[]).expect(200);
    let etag = first.header("ETag").expect("files have an ETag");
    assert_eq!(
        get(&[("Range", "bytes=0-3"), ("If-Range", etag)])
            .expect(206)
            .body,
        b"my o"
    );
    let whole = get(&[("Range", "bytes=0-3"), ("If-Range", "\"other\"")]).expect(200);
    assert_eq!(whole.body, b"my output");
}

#[test]
fn only_who_knows_the_tag_may_read() {
    let path = href().split('?').next().unwrap_or_default();
    runner().get(path).expect(422);
    let tag = href().split('=').next_back().unwrap_or_default();
    assert!(tag.len() >= 32, "{tag}");
    for wrong in ["", "wrong", &tag[1..], &tag.to_uppercase()] {
        let answer = runner().get(&format!("{path}?file-id={wrong}"));
        assert!(
            matches!(answer.status, 404 | 422),
            "{wrong}: {}",
            answer.status
        );
    }
    let body: Value = runner()
        .get(&format!("{path}?file-id=wrong"))
        .expect(404)
        .json();
    assert_eq!(body["message"], "File not found.");
}
