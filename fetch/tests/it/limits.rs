//! What a download carries, and what happens when the other side does not behave.

use std::time::{Duration, Instant};

use runner_fetch::Problem;

use crate::Bench;
use crate::server::{Server, Step, response};

#[tokio::test]
async fn headers_are_carried_over() {
    let headers = "Content-Type: text/csv; header=present\nX-Data-Type: entity/list\n\
        X-Attribute-Metadata: http://h/files/2/\nContent-Disposition: inline; filename=a.csv";
    let server = Server::fixed(response(200, headers, "ID\n1\n")).await;
    let (download, bytes) = Bench::new()
        .get(&server.url("/files/1/?file-id=x"))
        .await
        .unwrap();
    assert_eq!(bytes, b"ID\n1\n");
    assert_eq!(download.content_type, "text/csv; header=present");
    assert_eq!(download.data_type.as_deref(), Some("entity/list"));
    assert_eq!(
        download.attribute_metadata.as_deref(),
        Some("http://h/files/2/")
    );
    assert_eq!(download.name, "a.csv");
    let head = &server.heads()[0];
    assert!(
        head.starts_with("get /files/1/?file-id=x http/1.1"),
        "{head}"
    );
    assert!(head.contains("user-agent: runner/"), "{head}");
}

#[tokio::test]
async fn without_headers_the_url_names_it() {
    let server = Server::fixed(response(200, "", "")).await;
    let (download, _) = Bench::new()
        .get(&server.url("/a/b%20c.json?x"))
        .await
        .unwrap();
    assert_eq!(download.name, "b c.json");
    assert_eq!(download.content_type, "application/octet-stream");
    assert_eq!((download.size, download.data_type), (0, None));
}

#[tokio::test]
async fn announced_size_over_the_limit() {
    let server = Server::fixed(response(200, "", &"x".repeat(1001))).await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(
        error.ends_with("1001 bytes, larger than the limit of 1000 bytes"),
        "{error}"
    );
    let server = Server::fixed(response(200, "", &"x".repeat(1000))).await;
    assert_eq!(
        Bench::new().get(&server.url("/")).await.unwrap().1.len(),
        1000
    );
}

#[tokio::test]
async fn unannounced_size_over_the_limit() {
    let head = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
    let body = vec![b'x'; 100_000];
    let server = Server::fixed([&head[..], &body].concat()).await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(
        error.ends_with("larger than the limit of 1000 bytes"),
        "{error}"
    );

    // A chunked body that never ends.
    let server = Server::start(|_| {
        let mut steps = vec![Step::Send(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        )];
        steps.extend((0..100_000).map(|_| Step::Send(b"a\r\n0123456789\r\n".to_vec())));
        steps
    })
    .await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(
        error.ends_with("larger than the limit of 1000 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn chunked_bodies() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let server = Server::fixed(format!("{head}3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")).await;
    assert_eq!(
        Bench::new().get(&server.url("/")).await.unwrap().1,
        b"abcde"
    );

    for broken in ["3\r\nabc\r\n", "3\r\nab", "zz\r\nabc\r\n"] {
        let server = Server::fixed(format!("{head}{broken}")).await;
        let error = Bench::new().get(&server.url("/")).await.unwrap_err();
        assert!(matches!(error.problem(), Problem::Connection(_)), "{error}");
    }
}

#[tokio::test]
async fn truncated_body() {
    let text = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc";
    let server = Server::fixed(text).await;
    let error = Bench::new().get(&server.url("/")).await.unwrap_err();
    assert!(matches!(error.problem(), Problem::Connection(_)), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn slow_body_and_slow_head() {
    let bench = Bench::with(|c| {
        c.connect_timeout = Duration::from_millis(100);
        c.read_timeout = Duration::from_millis(200);
    });
    let start = Instant::now();
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec();
        vec![Step::Send(head), Step::Wait(Duration::from_secs(30))]
    })
    .await;
    let error = bench.fails(&server.url("/")).await;
    assert!(
        error.ends_with("waited 0.2 s for more of the body"),
        "{error}"
    );

    let server = Server::start(|_| vec![Step::Wait(Duration::from_secs(30))]).await;
    let error = bench.fails(&server.url("/")).await;
    assert!(error.ends_with("s for the response to begin"), "{error}");
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_body_that_drips_ends_with_the_total_time() {
    let bench = Bench::with(|c| c.total_timeout = Duration::from_millis(300));
    let server = Server::start(|_| {
        let mut steps = vec![Step::Send(b"HTTP/1.1 200 OK\r\n\r\n".to_vec())];
        for _ in 0..500 {
            steps.extend([
                Step::Send(b"x".to_vec()),
                Step::Wait(Duration::from_millis(20)),
            ]);
        }
        steps
    })
    .await;
    let error = bench.fails(&server.url("/")).await;
    assert!(
        error.ends_with("waited 0.3 s for the whole download"),
        "{error}"
    );
}

#[tokio::test]
async fn dropping_a_download_removes_its_file() {
    let server = Server::start(|_| {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc".to_vec();
        vec![Step::Send(head), Step::Wait(Duration::from_secs(30))]
    })
    .await;
    let bench = Bench::new();
    let (target, url) = (bench.target(), server.url("/"));
    let download = bench.fetcher.download(&url, &target);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), download)
            .await
            .is_err()
    );
    assert!(!target.exists());
}

#[tokio::test]
async fn error_statuses_carry_the_beginning_of_their_text() {
    let body = format!("no\n  such file {}", "ä".repeat(300));
    let server = Server::fixed(response(404, "Content-Type: text/plain", &body)).await;
    let error = Bench::new().fails(&server.url("/x?token=1")).await;
    let url = server.url("/x");
    let want = format!("cannot fetch {url}?token=***: answered 404: no such file ä");
    assert!(error.starts_with(&want), "{error}");
    assert!(
        error.ends_with("ä…") && error.chars().count() < want.len() + 200,
        "{error}"
    );

    let server = Server::fixed(response(500, "Content-Type: image/png", "abc")).await;
    let error = Bench::new().get(&server.url("/")).await.unwrap_err();
    assert!(error.to_string().ends_with("answered 500"), "{error}");
    assert!(error.is_transient());
}

#[tokio::test]
async fn what_is_no_plain_http_answer() {
    for (text, part) in [
        ("garbage\r\n\r\n", "error"),
        ("", "error"),
        (
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx",
            "encoded (gzip)",
        ),
        (
            "HTTP/1.1 206 X\r\nContent-Length: 1\r\n\r\nx",
            "answered 206",
        ),
    ] {
        let server = Server::fixed(text).await;
        let error = Bench::new().fails(&server.url("/")).await;
        assert!(error.contains(part), "{text:?}: {error}");
    }
}

#[tokio::test]
async fn dead_port_and_unknown_host() {
    let server = Server::fixed("").await;
    let url = server.url("/?secret=x");
    drop(server);
    tokio::task::yield_now().await;
    let error = Bench::new().get(&url).await.unwrap_err();
    assert!(error.is_transient());
    let text = error.to_string();
    assert!(
        text.contains("refused") && text.contains("secret=***"),
        "{text}"
    );

    let error = Bench::new()
        .fails("http://me:pw@no-such-host.invalid/")
        .await;
    assert!(
        error.starts_with("cannot fetch http://***@no-such-host.invalid/: "),
        "{error}"
    );
}

#[tokio::test]
async fn tls_to_something_else_is_an_error() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        let (mut stream, _) = listener.accept().await.unwrap();
        stream
            .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .await
            .unwrap();
    });
    let error = Bench::new().get(&url).await.unwrap_err();
    assert!(
        !matches!(error.problem(), Problem::Timeout { .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .starts_with("cannot fetch https://127.0.0.1"),
        "{error}"
    );
    // Without certificate authorities no connection is made.
    serving.abort();
}

#[tokio::test]
async fn an_existing_target_is_not_touched() {
    let server = Server::fixed(response(200, "", "new")).await;
    let bench = Bench::new();
    std::fs::write(bench.target(), "old").unwrap();
    let error = bench
        .fetcher
        .download(&server.url("/"), &bench.target())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("cannot create"), "{error}");
    assert_eq!(std::fs::read(bench.target()).unwrap(), b"old");
}

#[tokio::test]
async fn a_full_disk_is_said() {
    let full = std::path::Path::new("/dev/full");
    if !full.exists() {
        return;
    }
    // Cannot be created new, which is the only way that a target is made.
    let error = Bench::new()
        .fetcher
        .download("data:,x", full)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("cannot create \"/dev/full\""),
        "{error}"
    );
    assert!(full.exists());
}

#[tokio::test]
async fn wrong_urls_say_what_is_wrong() {
    for (url, part) in [
        ("", "must begin with a scheme"),
        ("/files/1/", "must begin with a scheme"),
        ("http://", "empty host"),
        ("http://a b/", "invalid"),
        ("ftp://h/x", "scheme \"ftp\" is refused"),
        ("javascript:alert(1)", "scheme \"javascript\" is refused"),
        ("unix:///run/x.sock", "scheme \"unix\" is refused"),
        ("data:nothing", "no comma"),
    ] {
        let error = Bench::new().fails(url).await;
        assert!(error.contains(part), "{url}: {error}");
    }
}

#[tokio::test]
async fn data_urls() {
    let bench = Bench::new();
    let (download, bytes) = bench
        .get("data:text/csv;charset=utf-8;base64,YSxi")
        .await
        .unwrap();
    assert_eq!(bytes, b"a,b");
    assert_eq!(download.content_type, "text/csv;charset=utf-8");
    assert_eq!(download.name, "data.csv");
    let error = bench.fails(&format!("data:,{}", "x".repeat(2000))).await;
    assert!(
        error.ends_with("2000 bytes, larger than the limit of 1000 bytes"),
        "{error}"
    );
    assert!(error.len() < 200, "{error}");
}
