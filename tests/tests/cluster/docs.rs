//! The lines of `docs/scaling.md`, with the addresses of this test.

use runner_tests::Runner;
use runner_tests::scratch::Scratch;

use crate::site::Site;

/// The lines of its first block of shell.
fn lines() -> Vec<String> {
    let path = runner_tests::repository("docs/scaling.md");
    let text = std::fs::read_to_string(path).expect("docs/scaling.md");
    let block = text.split("```sh\n").nth(1).expect("a block of shell");
    let block = block.split("```").next().unwrap_or_default();
    block.lines().map(str::to_owned).collect()
}

#[test]
fn the_lines_of_the_page_start_an_installation() {
    let site = Site::postgres();
    let folder = Scratch::new();
    let mut server = None;
    let mut workers = Vec::new();
    for line in lines() {
        let mut words = line.split_whitespace();
        assert_eq!(words.next(), Some("runner"), "{line}");
        let role = words.next();
        let mut builder = Runner::builder()
            .plugins(["stable_plugins/demo"])
            .env("QUEUE", &site.queue)
            .instance(folder.path().join("instance"));
        for word in words {
            builder = builder.arg(match word.split_once("://") {
                Some(("redis", _)) => site.redis.url(),
                Some(("postgresql", _)) => site.database.url(),
                Some(_) => panic!("{word} in {line}"),
                None => word.to_owned(),
            });
        }
        match role {
            Some("server") => server = Some(builder.server().start()),
            Some("worker") => workers.push(builder.start_worker()),
            _ => panic!("{line}"),
        }
    }
    let server = server.expect("a line that starts a server");
    assert_eq!(workers.len(), 2);
    let task = server.run_well("hello-world@v0-2-1", &[("inputStr", "many")]);
    let (_, _, content) = server.only_output(&task);
    assert!(String::from_utf8_lossy(&content).contains("many"));
    let fields = [
        ("inputStr", "later"),
        ("_priority", "high"),
        ("_retries", "2"),
        ("_timeout", "30"),
        ("_runAt", "2020-01-31T09:00:00+01:00"),
    ];
    server.run_well("hello-world@v0-2-1", &fields);
}
