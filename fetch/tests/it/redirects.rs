//! Redirects, the URL map and the address policy.

use runner_fetch::{AddressPolicy, Problem, UrlMap};

use crate::Bench;
use crate::server::{Server, Step, redirect, response};

/// Answers `/end` with a body, and everything else with a redirect to the given place.
async fn to(location: &str) -> Server {
    let location = location.to_owned();
    Server::start(move |head| {
        if head.starts_with("GET /end") {
            vec![Step::Send(response(200, "", "end"))]
        } else {
            redirect(302, &location)
        }
    })
    .await
}

#[tokio::test]
async fn relative_ones_of_every_status() {
    for status in [301, 302, 303, 307, 308] {
        let server = Server::start(move |head| match head.split(' ').nth(1) {
            Some("/a/b") => redirect(status, "../end.csv?x=1"),
            _ => vec![Step::Send(response(200, "", "end"))],
        })
        .await;
        let (download, bytes) = Bench::new().get(&server.url("/a/b")).await.unwrap();
        assert_eq!(bytes, b"end");
        assert_eq!(download.final_url, server.url("/end.csv?x=1"));
        assert_eq!(download.name, "end.csv");
    }
}

#[tokio::test]
async fn credentials_stay_with_their_host() {
    let other = to("unused").await;
    let server = to(&other.url("/end")).await;
    let url = server.url("/start").replace("http://", "http://me:pw@");
    Bench::new().get(&url).await.unwrap();
    assert!(server.heads()[0].contains("authorization: basic"));
    assert!(
        !other.heads()[0].contains("authorization"),
        "{:?}",
        other.heads()
    );

    let server = to("/end").await;
    let url = server.url("/start").replace("http://", "http://me:pw@");
    Bench::new().get(&url).await.unwrap();
    assert!(server.heads()[1].contains("authorization: basic"));
}

#[tokio::test]
async fn loops_end() {
    let server = to("/again").await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(error.ends_with("more than 10 redirects"), "{error}");
    assert_eq!(server.heads().len(), 11);
}

#[tokio::test]
async fn other_schemes_are_refused() {
    for location in [
        "file:///etc/passwd",
        "data:,x",
        "ftp://h/",
        "FILE:/etc/passwd",
    ] {
        let server = to(location).await;
        let bench = Bench::with(|c| c.file_roots = vec!["/".into()]);
        let error = bench.fails(&server.url("/")).await;
        assert!(error.contains("a redirect to"), "{error}");
        assert!(
            error.contains("is refused; it must stay http or https"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn refused_addresses_are_refused_on_every_hop() {
    for host in [
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "2852039166",
        "0xa9.0xfe.43518",
    ] {
        let url = format!("http://{host}/latest/meta-data/");
        let bench = Bench::new();
        let server = to(&url).await;
        for url in [url, server.url("/")] {
            let error = bench.get(&url).await.unwrap_err();
            assert!(
                matches!(error.problem(), Problem::Refused { .. }),
                "{error}"
            );
            assert!(error.to_string().contains("169.254.0.0/16"), "{error}");
        }
    }
}

#[tokio::test]
async fn names_are_judged_by_what_they_resolve_to() {
    let server = to("/end").await;
    let url = format!("http://localhost:{}/end", server.address.port());
    Bench::new().get(&url).await.unwrap();

    let refused = vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let strict = Bench::with(|c| {
        c.policy = AddressPolicy {
            refused,
            ..AddressPolicy::default()
        }
    });
    let error = strict.get(&url).await.unwrap_err();
    assert!(
        matches!(error.problem(), Problem::Refused { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("of host localhost is refused"),
        "{error}"
    );
    assert_eq!(server.heads().len(), 1, "nothing was sent");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn private_addresses_are_refused_at_every_redirect_but_for_exceptions() {
    let server = to("/end").await;
    let by_name =
        |server: &Server, path: &str| format!("http://localhost:{}{path}", server.address.port());
    // Its name may be connected to; where it leads to may not.
    let outer = to(&server.url("/end")).await;
    for (exceptions, url, is_reached) in [
        ("", server.url("/end"), false),
        ("", by_name(&server, "/end"), false),
        ("127.0.0.0/8, ::1", server.url("/start"), true),
        ("127.0.0.0/8, ::1", by_name(&server, "/end"), true),
        ("localhost", by_name(&server, "/end"), true),
        ("localhost", server.url("/end"), false),
        ("localhost", by_name(&outer, "/"), false),
        ("localhost, 127.0.0.1", by_name(&outer, "/"), true),
    ] {
        let policy = AddressPolicy::default().without_private();
        let bench = Bench::with(|c| c.policy = policy.with_exceptions(exceptions).unwrap());
        let outcome = bench.get(&url).await;
        assert_eq!(outcome.is_ok(), is_reached, "{exceptions:?} {url}");
        if let Err(error) = outcome {
            let error = error.to_string();
            assert!(error.contains("ALLOWED_NETWORKS"), "{error}");
        }
    }
}

#[tokio::test]
async fn what_is_read_into_memory_is_bounded_in_size_and_time() {
    let server = to("/end").await;
    let fetcher = runner_fetch::Fetcher::new(runner_fetch::FetchConfig::default()).unwrap();
    let long = std::time::Duration::from_secs(5);
    let read = fetcher.read(&server.url("/start"), 3, long).await;
    assert_eq!(read.unwrap(), b"end");
    let error = fetcher
        .read(&server.url("/end"), 2, long)
        .await
        .unwrap_err();
    assert!(
        matches!(error.problem(), Problem::TooLarge { limit: 2, .. }),
        "{error}"
    );
    let error = fetcher.read("data:,x", 2, long).await.unwrap_err();
    assert!(matches!(error.problem(), Problem::Scheme(_)), "{error}");
    let short = std::time::Duration::from_millis(50);
    let silent = Server::start(|_| vec![Step::Wait(std::time::Duration::from_secs(5))]).await;
    let error = fetcher.read(&silent.url("/"), 2, short).await.unwrap_err();
    assert!(
        matches!(error.problem(), Problem::Timeout { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_location_that_cannot_be_used() {
    let server = Server::fixed(response(302, "", "")).await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(
        error.ends_with("redirect 302 with an unusable Location: it is missing"),
        "{error}"
    );
    let server = to("http://[broken").await;
    let error = Bench::new().fails(&server.url("/")).await;
    assert!(error.contains("unusable Location"), "{error}");
}

#[tokio::test]
async fn the_map_applies_to_first_urls_and_to_redirects() {
    let server = to("http://public.example/end").await;
    let map = UrlMap::new([
        (
            "^http://public[.]example/",
            format!("http://{}/", server.address),
        ),
        ("/begin$", "/x".to_owned()),
    ]);
    let bench = Bench::with(|c| c.url_map = map.unwrap());
    let (download, _) = bench.get("http://public.example/begin").await.unwrap();
    assert_eq!(download.final_url, server.url("/end"));
    assert!(server.heads()[0].starts_with("get /x "));

    // The error names both what was asked for and what was opened.
    let map = UrlMap::new([("^http://public[.]example/", "http://169.254.1.1/")]).unwrap();
    let error = Bench::with(|c| c.url_map = map)
        .fails("http://public.example/")
        .await;
    let want = "cannot fetch http://public.example/ (at http://169.254.1.1/): address";
    assert!(error.starts_with(want), "{error}");
}

#[tokio::test]
async fn loopback_is_reached_without_the_proxy() {
    let server = to("/end").await;
    let bench = Bench::with(|c| c.proxies.http = Some("http://127.0.0.1:1".to_owned()));
    bench.get(&server.url("/end")).await.unwrap();
}

#[tokio::test]
async fn other_hosts_are_reached_through_the_proxy() {
    let proxy = Server::fixed(response(200, "", "by proxy")).await;
    // The proxy itself may stand where targets may not.
    let refused = vec!["127.0.0.0/8".parse().unwrap()];
    let bench = Bench::with(|c| {
        c.proxies.http = Some(proxy.url(""));
        c.policy = AddressPolicy {
            refused,
            ..AddressPolicy::default()
        };
    });
    assert_eq!(
        bench.get("http://some.example/x").await.unwrap().1,
        b"by proxy"
    );
    assert!(
        proxy.heads()[0].starts_with("get http://some.example/x "),
        "{:?}",
        proxy.heads()
    );
}
