//! Plugins from git: real repositories, the real program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use runner_fetch::{GitClone, GitConfig, GitError, GitPlugin, GitPlugins, UrlMap};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::server::{Server, Step, response};

/// A repository that people commit to.
struct Repository(TempDir);

impl Repository {
    fn new() -> Self {
        let repository = Self(tempfile::tempdir().unwrap());
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository
    }

    /// With one commit of one plugin.
    fn with_plugin() -> Self {
        let repository = Self::new();
        repository.file("plugins/one.py", "1");
        repository.commit();
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn git(&self, arguments: &[&str]) -> String {
        let identity = [
            "-c",
            "user.name=a",
            "-c",
            "user.email=a@b",
            "-c",
            "protocol.file.allow=always",
        ];
        let output = Command::new("git")
            .current_dir(self.path())
            .args(identity)
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Commits all; answers the commit.
    fn commit(&self) -> String {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message=x"]);
        self.git(&["rev-parse", "HEAD"])
    }

    fn source(&self, rest: &str) -> String {
        format!("git+file://{}{rest}", self.path().display())
    }
}

/// Where clones go.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn plugins(&self, sources: &str) -> GitPlugins {
        self.with(sources, UrlMap::default(), Duration::from_secs(30))
    }

    fn with(&self, sources: &str, url_map: UrlMap, timeout: Duration) -> GitPlugins {
        let config = GitConfig {
            folder: self.path().to_owned(),
            url_map,
            timeout,
        };
        GitPlugins::new(sources, config)
    }

    async fn fetch(&self, source: &str) -> GitPlugin {
        let fetched = self.plugins(source).fetch().await;
        self.is_tidy();
        fetched.into_iter().next().unwrap()
    }

    /// What was fetched.
    async fn good(&self, source: &str) -> GitClone {
        let fetched = self.fetch(source).await;
        assert!(fetched.problem.is_none(), "{fetched:?}");
        fetched.clone.unwrap()
    }

    async fn bad(&self, source: &str) -> String {
        let fetched = self.fetch(source).await;
        assert!(fetched.clone.is_none(), "{fetched:?}");
        fetched.problem.unwrap().to_string()
    }

    /// Nothing half-made is left, and no `.git`.
    fn is_tidy(&self) {
        for entry in walkdir(self.path()) {
            let name = entry.file_name().unwrap().to_str().unwrap();
            assert!(
                !name.starts_with(".draft") && name != ".git" && name != "HEAD",
                "{entry:?}"
            );
        }
    }
}

fn walkdir(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .flatten()
        .map(|entry| entry.path());
    entries
        .flat_map(|path| match path.is_dir() && !path.is_symlink() {
            true => [vec![path.clone()], walkdir(&path)].concat(),
            false => vec![path],
        })
        .collect()
}

#[tokio::test]
async fn a_folder_a_package_and_a_file_are_found_from_the_root() {
    let repository = Repository::new();
    repository.file("plugins/one.py", "1");
    repository.file("deep/package/__init__.py", "2");
    repository.commit();
    let folder = Folder::new();
    for (rest, end) in [
        ("", ""),
        ("#subdirectory=plugins", "plugins"),
        ("#subdirectory=/plugins", "plugins"),
        ("#egg=name&subdirectory=deep/package", "deep/package"),
        ("@main#subdirectory=plugins/one.py", "plugins/one.py"),
    ] {
        let clone = folder.good(&repository.source(rest)).await;
        assert!(
            clone.path.ends_with(end) && clone.path.exists(),
            "{rest}: {clone:?}"
        );
    }
    let problem = folder
        .bad(&repository.source("#subdirectory=nowhere"))
        .await;
    assert_eq!(problem, "there is no nowhere in the repository");
}

#[tokio::test]
async fn branches_tags_and_commits_are_what_they_say() {
    let repository = Repository::with_plugin();
    let first = repository.git(&["rev-parse", "HEAD"]);
    repository.git(&["tag", "--annotate", "--message=x", "v1"]);
    repository.git(&["checkout", "--quiet", "-b", "feature/a/b"]);
    let second = repository.commit();
    repository.git(&["checkout", "--quiet", "main"]);
    repository.file("plugins/one.py", "3");
    let third = repository.commit();
    // One that no branch has any more.
    repository.git(&["checkout", "--quiet", "--detach"]);
    let lost = repository.commit();
    repository.git(&["checkout", "--quiet", "main"]);
    let folder = Folder::new();
    for (reference, commit) in [
        ("", &third),
        ("@main", &third),
        ("@v1", &first),
        ("@feature/a/b", &second),
        ("@refs/heads/feature/a/b", &second),
        (&*format!("@{first}"), &first),
        (&format!("@{}", &first[..9]), &first),
        (&format!("@{}", second.to_uppercase()), &second),
        (&format!("@{lost}"), &lost),
    ] {
        let clone = folder.good(&repository.source(reference)).await;
        assert_eq!(clone.commit, *commit, "{reference}");
    }
    for nothing in ["@nothing", "@0000000", &format!("@{}", "1".repeat(40))] {
        let problem = folder.bad(&repository.source(nothing)).await;
        assert!(problem.starts_with("git "), "{nothing}: {problem}");
    }
}

#[tokio::test]
async fn a_fetch_brings_what_is_new_and_keeps_the_one_before() {
    let repository = Repository::with_plugin();
    let source = repository.source("@main#subdirectory=plugins");
    let folder = Folder::new();
    assert!(matches!(
        folder.plugins(&source).known()[0].problem,
        Some(GitError::Unknown)
    ));
    let first = folder.good(&source).await;
    assert_eq!(folder.good(&source).await, first);
    let mut clones = vec![first];
    for text in ["2", "3"] {
        repository.file("plugins/one.py", text);
        repository.commit();
        let clone = folder.good(&source).await;
        assert_eq!(fs::read_to_string(clone.path.join("one.py")).unwrap(), text);
        assert_eq!(
            folder.plugins(&source).known()[0].clone,
            Some(clone.clone())
        );
        clones.push(clone);
    }
    let there: Vec<bool> = clones.iter().map(|clone| clone.path.exists()).collect();
    assert_eq!(there, [false, true, true]);
}

#[tokio::test]
async fn without_the_repository_the_last_good_clone_is_used() {
    let repository = Repository::with_plugin();
    let first = repository.git(&["rev-parse", "HEAD"]);
    let (moving, pinned) = (
        repository.source("@main"),
        repository.source(&format!("@{first}")),
    );
    let folder = Folder::new();
    let clone = folder.good(&moving).await;
    folder.good(&pinned).await;
    // What has no target any more is as bad as what is away.
    repository.git(&["mv", "plugins", "others"]);
    repository.commit();
    let narrow = repository.source("@main#subdirectory=others");
    folder.good(&narrow).await;
    repository.git(&["mv", "others", "plugins"]);
    repository.commit();
    let fetched = folder.fetch(&narrow).await;
    assert!(
        matches!(fetched.problem, Some(GitError::Missing { .. })),
        "{fetched:?}"
    );
    assert!(fetched.clone.unwrap().path.exists());
    drop(repository);
    let fetched = folder.fetch(&moving).await;
    assert_eq!(fetched.clone, Some(clone));
    let problem = fetched.problem.unwrap().to_string();
    assert!(problem.starts_with("git fetch failed: "), "{problem}");
    // A pinned commit that is there is asked of nobody.
    assert!(folder.fetch(&pinned).await.problem.is_none());
}

#[tokio::test]
async fn what_leads_out_of_a_repository_is_refused() {
    let secret = tempfile::tempdir().unwrap();
    fs::write(secret.path().join("token"), "x").unwrap();
    for (target, is_refused) in [
        (secret.path().join("token").to_str().unwrap(), true),
        ("../../../../../../../../etc/passwd", true),
        ("../nowhere/../../../x", true),
        ("/nowhere", true),
        ("inner/../../../x", true),
        ("../plugins/one.py", false),
        ("../nowhere", false),
    ] {
        let repository = Repository::with_plugin();
        fs::create_dir(repository.path().join("links")).unwrap();
        symlink(target, repository.path().join("links/link")).unwrap();
        repository.commit();
        let folder = Folder::new();
        let fetched = folder.fetch(&repository.source("")).await;
        let refused = matches!(&fetched.problem, Some(GitError::Leaves { path }) if path == Path::new("links/link"));
        assert_eq!(refused, is_refused, "{target}: {fetched:?}");
    }
    // A link to a folder counts as what is in it.
    let repository = Repository::with_plugin();
    symlink("plugins", repository.path().join("same")).unwrap();
    repository.commit();
    let clone = Folder::new();
    let path = clone
        .good(&repository.source("#subdirectory=same/one.py"))
        .await
        .path;
    assert_eq!(fs::read_to_string(path).unwrap(), "1");
}

#[tokio::test]
async fn nothing_of_a_repository_is_executed_and_submodules_are_off() {
    let repository = Repository::with_plugin();
    let marker = repository.path().join("executed");
    repository.file(".gitattributes", "* filter=evil\n");
    repository.file(
        ".gitmodules",
        "[submodule \"s\"]\n\tpath = s\n\turl = ./\n\tupdate = !touch executed\n",
    );
    let own = repository.source("");
    repository.git(&[
        "submodule",
        "--quiet",
        "add",
        "--force",
        own.trim_start_matches("git+"),
        "sub",
    ]);
    repository.commit();
    let folder = Folder::new();
    let clone = folder.good(&own).await;
    assert!(!marker.exists());
    let inside = fs::read_dir(clone.path.join("sub")).unwrap().count();
    assert_eq!(inside, 0, "submodules are off");
}

#[tokio::test]
async fn other_protocols_and_options_never_reach_git() {
    let folder = Folder::new();
    let marker = folder.path().join("executed");
    for source in [
        format!("git+ext::sh%20-c%20touch%20{}", marker.display()),
        format!("git+ext://touch/{}", marker.display()),
        format!("git+file:///x@--upload-pack=touch {}", marker.display()),
        "git+fd::7".to_owned(),
        "--upload-pack=x".to_owned(),
    ] {
        let problem = folder.bad(&source).await;
        assert!(!problem.contains("git fetch"), "{source}: {problem}");
    }
    assert!(!marker.exists());
    // Nor after URL_MAP.
    let url_map = UrlMap::new([("^https://h/.*", "ext::touch")]).unwrap();
    let mapped = folder.with("git+https://h/b", url_map, Duration::from_secs(5));
    let problem = mapped.fetch().await.remove(0).problem.unwrap().to_string();
    assert!(problem.contains("\"ext\" is not allowed"), "{problem}");
}

#[tokio::test]
async fn the_url_map_says_where_repositories_are() {
    let repository = Repository::with_plugin();
    let to = format!("file://{}", repository.path().display());
    let url_map = UrlMap::new([("^https://example.org/.*", to)]).unwrap();
    let folder = Folder::new();
    let mapped = folder.with(
        "git+https://example.org/b",
        url_map,
        Duration::from_secs(30),
    );
    let fetched = mapped.fetch().await.remove(0);
    assert!(fetched.problem.is_none(), "{fetched:?}");
    assert_eq!(fetched.source, "git+https://example.org/b");
}

#[tokio::test]
async fn two_who_fetch_at_once_fetch_once() {
    let repository = Repository::with_plugin();
    let source = repository.source("");
    let folder = Folder::new();
    let (one, two) = (folder.plugins(&source), folder.plugins(&source));
    // Another process is at it.
    let held = walkdir(folder.path());
    assert!(held.is_empty());
    let first = folder.good(&source).await;
    let place = first.path.parent().unwrap().parent().unwrap();
    let lock = fs::File::open(place.join(".lock")).unwrap();
    lock.lock().unwrap();
    let waiting = tokio::spawn(async move { one.fetch().await });
    let also = tokio::spawn(async move { two.fetch().await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!waiting.is_finished());
    // It writes down that it is done, and the repository is away: only who asks it sees that.
    let record = place.join("current.json");
    fs::write(&record, fs::read(&record).unwrap()).unwrap();
    drop(repository);
    lock.unlock().unwrap();
    for fetched in [waiting.await.unwrap(), also.await.unwrap()] {
        assert!(fetched[0].problem.is_none(), "{fetched:?}");
        assert_eq!(fetched[0].clone.as_ref(), Some(&first));
    }
}

#[tokio::test]
async fn credentials_are_given_when_asked_for_and_never_told() {
    // "me:t0p-secret".
    const SHOWN: &str = "bWU6dDBwLXNlY3JldA==";
    let server = Server::start(|head| {
        let answer = match head.contains(SHOWN) {
            true => response(
                403,
                "Content-Type: text/plain",
                "you are me with t0p-secret",
            ),
            false => response(401, "WWW-Authenticate: Basic realm=\"x\"", ""),
        };
        vec![Step::Send(answer)]
    })
    .await;
    let folder = Folder::new();
    let port = server.address.port();
    let source = format!("git+http://me:t0p-secret@127.0.0.1:{port}/private");
    let fetched = folder.plugins(&source).fetch().await.remove(0);
    let problem = fetched.problem.as_ref().unwrap().to_string();
    // It was asked for them, and told what it got.
    assert!(problem.contains("403"), "{problem}");
    let told = format!("{fetched:?} {problem} {:?}", folder.plugins(&source));
    for hidden in ["t0p-secret", SHOWN] {
        assert!(!told.contains(hidden), "{told}");
        for file in walkdir(folder.path()).iter().filter(|path| path.is_file()) {
            assert!(
                !fs::read_to_string(file)
                    .unwrap_or_default()
                    .contains(hidden),
                "{file:?}"
            );
        }
    }
    let without = folder
        .bad(&format!("git+http://127.0.0.1:{port}/private"))
        .await;
    assert!(
        without.contains("prompts disabled"),
        "nobody is asked: {without}"
    );
}

#[tokio::test]
async fn a_silent_server_costs_the_time_limit_and_nothing_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let folder = Folder::new();
    let source = format!("git+http://127.0.0.1:{port}/silent");
    let begin = Instant::now();
    let slow = folder.with(&source, UrlMap::default(), Duration::from_secs(1));
    let fetched = slow.fetch().await.remove(0);
    assert!(
        matches!(fetched.problem, Some(GitError::TimedOut { .. })),
        "{fetched:?}"
    );
    assert!(begin.elapsed() < Duration::from_secs(10));
    folder.is_tidy();
    let port = port.to_string();
    let is_gone = || {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let mut lines = processes.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
        !lines.any(|line| {
            String::from_utf8_lossy(&line).contains(&format!("127.0.0.1:{port}/silent"))
        })
    };
    let end = Instant::now() + Duration::from_secs(5);
    while !is_gone() {
        assert!(Instant::now() < end, "git or its helper still runs");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn many_sources_are_fetched_and_each_fails_alone() {
    let repository = Repository::with_plugin();
    let folder = Folder::new();
    let sources = format!(
        "{}\n\n  git+file:///nowhere/at/all\t{}\nnonsense\n{}",
        repository.source("#subdirectory=plugins"),
        repository.source("#subdirectory=plugins/one.py"),
        repository.source("#subdirectory=plugins"),
    );
    let fetched = folder.plugins(&sources).fetch().await;
    let failed: Vec<bool> = fetched
        .iter()
        .map(|plugin| plugin.problem.is_some())
        .collect();
    assert_eq!(failed, [false, true, false, true]);
    let known = folder.plugins(&sources).known();
    assert_eq!(
        known.iter().filter(|plugin| plugin.clone.is_some()).count(),
        2
    );
}
