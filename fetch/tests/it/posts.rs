//! Webhooks.

use std::time::{Duration, Instant};

use runner_fetch::Problem;

use crate::Bench;
use crate::server::{Server, Step, redirect, response};

const WAIT: Duration = Duration::from_secs(5);

#[tokio::test]
async fn one_post_with_an_empty_body() {
    let server = Server::fixed(response(204, "", "")).await;
    let url = server.url("/hook?source=http%3A%2F%2Fh%2Ftasks%2F1%2F&event=status");
    assert_eq!(Bench::new().fetcher.post(&url, WAIT).await.unwrap(), 204);
    let heads = server.heads();
    let want = "post /hook?source=http%3a%2f%2fh%2ftasks%2f1%2f&event=status http/1.1";
    assert!(heads.len() == 1 && heads[0].starts_with(want), "{heads:?}");
    assert!(heads[0].contains("content-length: 0\r\n"), "{heads:?}");
}

#[tokio::test]
async fn every_status_is_an_answer() {
    for status in [200, 302, 404, 500] {
        let server = Server::fixed(response(status, "Location: /x", "text")).await;
        let post = Bench::new().fetcher.clone();
        assert_eq!(post.post(&server.url("/"), WAIT).await.unwrap(), status);
        assert_eq!(server.heads().len(), 1);
    }
}

#[tokio::test]
async fn permanent_redirects_are_posted_again() {
    let server = Server::start(|head| {
        if head.starts_with("POST /hook/ ") {
            vec![Step::Send(response(200, "", ""))]
        } else {
            redirect(308, "/hook/")
        }
    })
    .await;
    assert_eq!(
        Bench::new()
            .fetcher
            .post(&server.url("/hook"), WAIT)
            .await
            .unwrap(),
        200
    );
}

#[tokio::test]
async fn the_time_is_kept() {
    let server = Server::start(|_| vec![Step::Wait(Duration::from_secs(30))]).await;
    let start = Instant::now();
    let short = Duration::from_millis(200);
    let error = Bench::new()
        .fetcher
        .post(&server.url("/"), short)
        .await
        .unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    let text = error.to_string();
    assert!(
        text.starts_with("cannot post to http://127.0.0.1"),
        "{text}"
    );
    assert!(
        text.ends_with("waited 0.2 s for the answer") && error.is_transient(),
        "{text}"
    );
}

#[tokio::test]
async fn only_http_and_within_the_policy() {
    let post = Bench::new().fetcher.clone();
    for url in ["data:,x", "file:///etc/passwd", "ftp://h/"] {
        let error = post.post(url, WAIT).await.unwrap_err();
        assert!(matches!(error.problem(), Problem::Scheme(_)), "{error}");
    }
    let error = post
        .post("http://169.254.169.254/", WAIT)
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem(), Problem::Refused { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn connections_are_used_again() {
    // One connection answers twice; a second connection would get nothing.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            stream.write_all(answer).await.unwrap();
        }
    });
    let bench = Bench::new();
    for _ in 0..2 {
        assert_eq!(bench.fetcher.post(&url, WAIT).await.unwrap(), 200);
    }
    serving.await.unwrap();
}
