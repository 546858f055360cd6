//! The image without an engine: its entry point as the Dockerfile has it, in a root folder of its own, with the same
//! user and variables.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use runner_tests::process::Process;
use runner_tests::scratch::Scratch;
use runner_tests::{Request, eventually};
use serde_json::Value;

use crate::site::Site;

/// How long a container may take to be healthy, and a task to end.
const SOON: Duration = Duration::from_secs(60);

/// A repository in the volume of clones.
const FROM_GIT: &str = "git+file:///app/git-plugins/.source@main#subdirectory=plugins";

/// What the last stage of the Dockerfile says.
#[derive(Debug, Default)]
struct Image {
    variables: BTreeMap<String, String>,
    user: String,
    command: Vec<String>,
    health: Vec<String>,
    volumes: Vec<String>,
    /// Folders that it makes for the user.
    folders: Vec<String>,
}

impl Image {
    fn read() -> Self {
        let text = fs::read_to_string(runner_tests::repository("Dockerfile")).expect("Dockerfile");
        let last = text.rsplit("\nFROM ").next().unwrap_or_default();
        let lines: Vec<&str> = last
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with('#'))
            .collect();
        let joined = lines.join("\n").replace("\\\n", " ");
        let mut image = Self::default();
        let list = |text: &str| -> Vec<String> {
            let from = text
                .find('[')
                .unwrap_or_else(|| panic!("no list in {text}"));
            serde_json::from_str(&text[from..]).unwrap_or_else(|e| panic!("{text}: {e}"))
        };
        let (mut entry, mut command) = (Vec::new(), Vec::new());
        for line in joined.lines() {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            match word {
                "ENV" => image.variables.extend(rest.split_whitespace().map(|pair| {
                    let (name, value) = pair.split_once('=').expect("a value");
                    (name.to_owned(), value.to_owned())
                })),
                "USER" => image.user = rest.to_owned(),
                "ENTRYPOINT" => entry = list(rest),
                "CMD" => command = list(rest),
                "HEALTHCHECK" => image.health = list(rest),
                "VOLUME" => image.volumes = list(rest),
                "RUN" if rest.contains("install --directory") => {
                    let folders = rest
                        .split_whitespace()
                        .filter(|word| word.starts_with("/app"));
                    image.folders = folders.map(str::to_owned).collect();
                }
                _ => {}
            }
        }
        image.command = [entry, command].concat();
        image
    }
}

/// A machine for containers.
struct Machine {
    image: Image,
    folder: Scratch,
    site: Site,
}

impl Machine {
    /// None, said in a line, where nobody may make a mount namespace.
    fn new() -> Option<Self> {
        let allowed = Command::new("unshare").args(["--mount", "true"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            println!("skipped: a mount namespace cannot be made here");
            return None;
        }
        let (image, folder) = (Image::read(), Scratch::new());
        for volume in &image.volumes {
            let path = Self::place(folder.path(), volume);
            fs::create_dir_all(&path).expect("it can be made");
            let (user, group) = image.user.split_once(':').expect("user:group");
            let number = |text: &str| Some(text.parse().expect("a number"));
            chown(&path, number(user), number(group)).expect("it can be given to the user");
        }
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
        })
    }

    fn place(folder: &Path, volume: &str) -> PathBuf {
        folder
            .join("volumes")
            .join(volume.trim_matches('/').replace('/', "-"))
    }

    /// Makes the repository, for the user.
    fn commit(&self) {
        let source = Self::place(self.folder.path(), "/app/git-plugins").join(".source");
        fs::create_dir_all(source.join("plugins")).expect("it can be made");
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

    /// A command in a container, with more variables.
    fn command(&self, words: &[String], variables: &[(&str, String)]) -> Command {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let root = self.folder.path().join(format!("root-{number}"));
        fs::create_dir(&root).expect("it can be made");
        let volumes = self.image.volumes.iter();
        let volumes: Vec<_> = volumes
            .map(|volume| {
                format!(
                    "{volume}={}",
                    Self::place(self.folder.path(), volume).display()
                )
            })
            .collect();
        let plugins = runner_tests::repository("stable_plugins/demo");
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .arg(runner_tests::repository("tests/fixtures/container/enter"))
            .arg(root)
            .arg(runner_tests::runner::binary())
            .arg(&self.image.user)
            .arg(volumes.join(":"))
            .arg(format!("/app/extra-plugins={}", plugins.display()))
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

    fn output(&self, words: &[&str], variables: &[(&str, String)]) -> Output {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        self.command(&words, variables)
            .output()
            .expect("unshare can be started")
    }

    /// A container that is healthy; and the variables with which it was started.
    fn start(&self, mode: &str, port: u16) -> (Process, Vec<(&'static str, String)>) {
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

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("an address").port()
}

#[test]
fn the_dockerfile_says_what_the_documents_do() {
    let image = Image::read();
    assert_eq!(image.command, ["runner", "container"]);
    assert_eq!(image.health, ["runner", "health"]);
    assert_eq!(image.user, "10001:10001");
    assert_eq!(image.volumes, ["/app/instance", "/app/git-plugins"]);
    let text = |name: &str| image.variables[name].clone();
    assert_eq!(
        text("PLUGIN_FOLDERS"),
        "/app/plugins:/app/extra-plugins:/app/git-plugins"
    );
    assert_eq!(
        (text("RUNNER_PORT"), text("CONTAINER_MODE")),
        ("8080".to_owned(), "server".to_owned())
    );
    let environments = text("ENVIRONMENTS_FOLDER");
    assert!(
        !image.volumes.contains(&environments),
        "what an image puts into a volume may be lost"
    );
    for folder in image
        .volumes
        .iter()
        .map(String::as_str)
        .chain(text("PLUGIN_FOLDERS").split(':'))
        .chain([environments.as_str()])
    {
        assert!(
            image.folders.iter().any(|made| made == folder),
            "{folder} is not made"
        );
    }
    // What the page says is in the image is.
    let page =
        fs::read_to_string(runner_tests::repository("docs/containers.md")).expect("the page");
    for value in [
        text("PLUGIN_FOLDERS"),
        text("GIT_PLUGINS_FOLDER"),
        text("METRICS_ADDRESS"),
        text("RUNNER_INSTANCE_FOLDER"),
        text("ENVIRONMENTS_FOLDER"),
    ] {
        assert!(page.contains(&format!("`{value}`")), "{value}");
    }
}

#[test]
fn server_and_worker_of_one_image_do_their_work_and_write_to_volumes_only() {
    let Some(machine) = Machine::new() else {
        return;
    };
    machine.commit();
    let port = free_port();
    let (mut server, variables) = machine.start("server", port);
    let (mut worker, _) = machine.start("worker", port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let send = |request: &Request| request.send(address).expect("an answer");
    let process = Request::post("/plugins/hello-world-python@v0-2-1/process/");
    let answer = send(&process.form(&[("inputStr", "contained")])).expect(303);
    let location = answer.header("location").expect("a location").to_owned();
    let task = eventually("the task to end", SOON, || {
        let task: Value = send(&Request::get(&location)).json();
        (task["status"] != "PENDING").then_some(task)
    });
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    let href = task["outputs"][0]["href"].as_str().expect("an output");
    let path = &href[href.find("/files/").expect("a file")..];
    assert!(send(&Request::get(path)).text().contains("contained"));
    let cloned = Request::post("/plugins/from-git@1-0-0/process/").form(&[]);
    let location = send(&cloned)
        .expect(303)
        .header("location")
        .expect("a location")
        .to_owned();
    let task = eventually("the task of a plugin from git to end", SOON, || {
        let task: Value = send(&Request::get(&location)).json();
        (task["status"] != "PENDING").then_some(task)
    });
    assert_eq!(task["log"], "cloned", "{task:#}");
    let shell = |script: &str| machine.output(&["sh", "-c", script], &variables);
    let who = shell("id -u; id -g; cat /proc/self/status | grep -e CapEff -e CapBnd -e NoNewPrivs");
    let who = String::from_utf8_lossy(&who.stdout).into_owned();
    let expected =
        "10001\n10001\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n";
    assert_eq!(who, expected);
    for place in [
        "/",
        "/app",
        "/app/plugins",
        "/app/extra-plugins",
        "/usr",
        "/program",
    ] {
        let refused = shell(&format!("touch {place}/new"));
        assert!(!refused.status.success(), "{place} can be written");
    }
    for place in ["/app/instance", "/app/git-plugins", "/tmp"] {
        let done = shell(&format!("touch {place}/new"));
        assert!(done.status.success(), "{place}: {done:?}");
    }
    // Another command takes the place of the first.
    let status = machine.output(&["runner", "db", "status"], &variables);
    assert!(
        String::from_utf8_lossy(&status.stdout).contains("applied"),
        "{status:?}"
    );
    assert!(worker.terminate().success(), "{}", worker.stderr());
    assert!(server.terminate().success(), "{}", server.stderr());
    let late = machine.output(&["runner", "health"], &variables);
    assert_eq!(late.status.code(), Some(1));
}

#[test]
fn a_container_that_waits_in_vain_says_for_whom() {
    let Some(machine) = Machine::new() else {
        return;
    };
    let variables = [
        ("WAIT_HOSTS", "127.0.0.1:1".to_owned()),
        ("WAIT_TIMEOUT", "1".to_owned()),
        ("AUTH", "off".to_owned()),
        ("RUNNER_PORT", "0".to_owned()),
        ("METRICS_ADDRESS", String::new()),
    ];
    let ended = machine
        .command(&machine.image.command, &variables)
        .output()
        .expect("it can be started");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    assert!(
        said.contains("WAIT_HOSTS") && said.contains("127.0.0.1:1"),
        "{said}"
    );
}
