//! A machine for containers: root folders of their own on it, with the image's user and variables.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use runner_tests::eventually;
use runner_tests::process::Process;
use runner_tests::scratch::Scratch;

use super::SOON;
use super::image::{Image, child_image};
use crate::site::Site;

/// A repository in the volume of clones.
const FROM_GIT: &str = "git+file:///app/git-plugins/.source@main#subdirectory=plugins";

/// A machine for containers.
pub(super) struct Machine {
    pub(super) image: Image,
    folder: Scratch,
    site: Site,
    /// Folders of the image whose content comes from a child image, by the folders that hold it.
    pub(super) layers: BTreeMap<String, PathBuf>,
}

impl Machine {
    /// None, said in a line, where nobody may make a mount namespace.
    pub(super) fn new() -> Option<Self> {
        let allowed = Command::new("unshare").args(["--mount", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            println!("skipped: a mount namespace cannot be made here");
            return None;
        }
        let (image, folder) = (Image::read(), Scratch::new());
        // Those outside must not keep the user out of its volumes.
        fs::set_permissions(
            folder.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o755),
        )
        .expect("it can be opened");
        Some(Self {
            image,
            folder,
            site: Site::postgres(),
            layers: BTreeMap::new(),
        })
    }

    fn place(folder: &Path, volume: &str) -> PathBuf {
        folder
            .join("volumes")
            .join(volume.trim_matches('/').replace('/', "-"))
    }

    /// Makes the repository, for the user.
    pub(super) fn commit(&self) {
        let volume = Self::place(self.folder.path(), "/app/git-plugins");
        let source = volume.join(".source");
        fs::create_dir_all(source.join("plugins")).expect("it can be made");
        self.image.give(&volume);
        let plugin = "return { name = \"from-git\", version = \"1.0.0\", run = function() return \"cloned\" end }";
        fs::write(source.join("plugins/from_git.lua"), plugin).expect("it can be written");
        let script = "git init -q -b main . && git add -A && git -c user.name=a -c user.email=a@b commit -q -m x && \
                      chown -R \"$0\" .";
        let made = Command::new("sh")
            .args(["-c", script, &self.image.user])
            .current_dir(&source)
            .status();
        assert!(made.is_ok_and(|status| status.success()));
    }

    /// Builds a child image by the example of the page, as its user; `context` has the folder `my-plugins`, and
    /// packages are found in `wheels`.
    pub(super) fn build(&mut self, context: &Path, wheels: &Path) {
        for folder in ["/app/plugins", "/app/environments"] {
            let layer = self.folder.path().join(format!("layers{folder}"));
            fs::create_dir_all(&layer).expect("it can be made");
            self.image.give(&layer);
            self.layers.insert(folder.to_owned(), layer);
        }
        for (word, rest) in child_image() {
            match word.as_str() {
                "FROM" => assert_eq!(rest, "runner"),
                "COPY" => {
                    let words: Vec<&str> = rest.split(' ').collect();
                    let [owner, from, to] = words[..] else {
                        panic!("COPY {rest}");
                    };
                    assert_eq!(owner, format!("--chown={}", self.image.user));
                    let to = &self.layers[to.trim_end_matches('/')];
                    let script = "cp -r \"$0/.\" \"$1\" && chown -R \"$2\" \"$1\"";
                    let copied = Command::new("sh")
                        .args(["-c", script])
                        .args([&context.join(from), to])
                        .arg(&self.image.user)
                        .status();
                    assert!(copied.is_ok_and(|status| status.success()));
                }
                "RUN" => {
                    let words = ["sh", "-c", &rest].map(str::to_owned);
                    let variables = [
                        ("PIP_NO_INDEX", "1".to_owned()),
                        ("PIP_FIND_LINKS", "/wheels".to_owned()),
                        ("UV_OFFLINE", "1".to_owned()),
                        ("UV_FIND_LINKS", "/wheels".to_owned()),
                    ];
                    let output = self
                        .in_root(&words, &variables, true, &[("/wheels", wheels)])
                        .output()
                        .expect("unshare can be started");
                    assert!(output.status.success(), "RUN {rest}: {output:?}");
                }
                _ => panic!("{word} is not known here"),
            }
        }
    }

    /// A command in a container, with more variables.
    pub(super) fn command(&self, words: &[String], variables: &[(&str, String)]) -> Command {
        self.in_root(words, variables, false, &[])
    }

    /// A command in a root folder. While an image is built its layers are written, and its volumes are others;
    /// `mounts` are folders for this command alone.
    fn in_root(
        &self,
        words: &[String],
        variables: &[(&str, String)],
        builds: bool,
        mounts: &[(&str, &Path)],
    ) -> Command {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = self.folder.path().join(format!("root-{number}"));
        fs::create_dir(&root).expect("it can be made");
        let pair = |place: &str, folder: &Path| format!("{place}={}", folder.display());
        let layers = self
            .layers
            .iter()
            .map(|(place, folder)| pair(place, folder));
        let (mut writable, mut fixed) = (Vec::new(), Vec::new());
        let mut volumes = self.folder.path().to_owned();
        if builds {
            // What is written to a volume while an image is built is not in the image.
            volumes.push("forgotten");
            writable.extend(layers);
        } else {
            fixed.extend(layers);
            let plugins = runner_tests::repository("stable_plugins/demo");
            fixed.push(pair("/app/extra-plugins", &plugins));
        }
        for volume in &self.image.volumes {
            let folder = Self::place(&volumes, volume);
            if !folder.exists() {
                fs::create_dir_all(&folder).expect("it can be made");
                self.image.give(&folder);
            }
            writable.push(pair(volume, &folder));
        }
        fixed.extend(mounts.iter().map(|(place, folder)| pair(place, folder)));
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .arg(runner_tests::repository("tests/fixtures/container/enter"))
            .arg(root)
            .arg(runner_tests::runner::binary())
            .arg(&self.image.user)
            .arg(writable.join(":"))
            .arg(fixed.join(":"))
            .arg("--")
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(&self.image.variables)
            .env("BROKER_URL", self.site.redis.url())
            .env("DATABASE_URL", self.site.database.url())
            .env("QUEUE", &self.site.queue)
            .env("DISK_FLOOR", "0")
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn output(&self, words: &[&str], variables: &[(&str, String)]) -> Output {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        self.command(&words, variables)
            .output()
            .expect("unshare can be started")
    }

    /// A container that is healthy; and the variables with which it was started.
    pub(super) fn start(&self, mode: &str, port: u16) -> (Process, Vec<(&'static str, String)>) {
        let redis = self.site.redis.port();
        let variables = vec![
            ("CONTAINER_MODE", mode.to_owned()),
            ("AUTH", "off".to_owned()),
            ("RUNNER_PORT", port.to_string()),
            ("METRICS_ADDRESS", format!("127.0.0.1:{}", free_port())),
            ("GIT_PLUGINS", FROM_GIT.to_owned()),
            (
                "WAIT_HOSTS",
                format!("127.0.0.1:{redis}, localhost:{redis}"),
            ),
            ("CONCURRENCY", "2".to_owned()),
        ];
        let process = Process::start(self.command(&self.image.command, &variables));
        eventually(&format!("a healthy {mode}"), SOON, || {
            let checked = self
                .command(&self.image.health, &variables)
                .output()
                .expect("it can be started");
            let is_well = checked.status.success();
            if !is_well && !process.stderr().contains("stopping") {
                println!("{}", String::from_utf8_lossy(&checked.stderr));
            }
            is_well.then_some(())
        });
        (process, variables)
    }
}

/// A port that nobody uses now.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("an address").port()
}
