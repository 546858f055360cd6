//! `file://` URLs.

use std::os::unix::fs::symlink;
use std::path::Path;

use crate::Bench;

/// A root with `a.csv`, links, a pipe and a folder; beside it a secret.
struct Tree {
    dir: tempfile::TempDir,
    bench: Bench,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::create_dir(dir.path().join("rootless")).unwrap();
        std::fs::write(root.join("a b.csv"), "ID\n1\n").unwrap();
        std::fs::write(root.join("large"), "x".repeat(1001)).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(dir.path().join("rootless/secret"), "s").unwrap();
        symlink(dir.path().join("secret"), root.join("out")).unwrap();
        symlink(dir.path(), root.join("up")).unwrap();
        symlink("a b.csv", root.join("in.json")).unwrap();
        symlink(&root, dir.path().join("linked")).unwrap();
        let bench = Bench::with(|c| c.file_roots = vec![root, "/no/such/root".into()]);
        Self { dir, bench }
    }

    fn url(&self, path: &str) -> String {
        format!("file://{}/{path}", self.dir.path().display())
    }
}

#[tokio::test]
async fn below_a_root() {
    let tree = Tree::new();
    let (download, bytes) = tree.bench.get(&tree.url("root/a%20b.csv")).await.unwrap();
    assert_eq!(bytes, b"ID\n1\n");
    assert_eq!(download.content_type, "text/csv");
    assert_eq!(download.name, "a b.csv");
    // By a link within, by a link to the root, with dots that stay inside, with localhost.
    for path in [
        "root/in.json",
        "linked/a%20b.csv",
        "root/sub/../a%20b.csv",
        "root/./a%20b.csv",
    ] {
        assert_eq!(
            tree.bench.get(&tree.url(path)).await.unwrap().1,
            b"ID\n1\n",
            "{path}"
        );
    }
    let url = tree
        .url("root/a%20b.csv")
        .replace("file://", "file://localhost");
    tree.bench.get(&url).await.unwrap();
}

#[tokio::test]
async fn outside_of_the_roots() {
    let tree = Tree::new();
    for path in [
        "secret",
        "root/out",
        "root/up/secret",
        "root/../secret",
        "root/%2e%2e/secret",
        "root/..%2fsecret",
        "root/sub/..%2f..%2fsecret",
        "rootless/secret",
        "no-such-file",
        "root/../../../../../../etc/passwd",
    ] {
        let error = tree.bench.fails(&tree.url(path)).await;
        assert!(
            error.contains("files may only be read below /"),
            "{path}: {error}"
        );
    }
    let error = Bench::new().fails("file:///etc/passwd").await;
    assert!(error.contains("none is allowed"), "{error}");
}

#[tokio::test]
async fn what_cannot_be_read() {
    let tree = Tree::new();
    let fifo = tree.dir.path().join("root/pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&fifo)
        .status()
        .unwrap();
    assert!(made.success() && Path::new(&fifo).exists());
    for (path, part) in [
        ("root/none", "No such file"),
        ("root/sub", "not a regular file"),
        ("root/pipe", "not a regular file"),
        (
            "root/large",
            "1001 bytes, larger than the limit of 1000 bytes",
        ),
        (
            "root/a%00b",
            "root/a\\0b\": file name contained an unexpected NUL byte",
        ),
    ] {
        let error = tree.bench.fails(&tree.url(path)).await;
        assert!(error.contains(part), "{path}: {error}");
    }
    let error = tree.bench.fails("file://other/etc/passwd").await;
    assert!(error.contains("file URLs have no host"), "{error}");
}
