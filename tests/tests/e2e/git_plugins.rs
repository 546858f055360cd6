//! Plugins from git repositories, and modules that somebody has to trust first.

mod away;
mod install;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use runner_tests::scratch::Scratch;
use runner_tests::{Request, Runner};
use serde_json::Value;

/// A repository with plugins in Lua, which answer what the last commit says.
struct Repository(Scratch);

impl Repository {
    fn new() -> Self {
        let repository = Self(Scratch::new());
        repository.git(&["init", "--quiet", "--initial-branch=main", "."]);
        repository.commit("first");
        repository
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn git(&self, arguments: &[&str]) {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        let done = Command::new("git")
            .current_dir(self.path())
            .args(identity)
            .args(arguments)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .output()
            .expect("git is installed");
        assert!(done.status.success(), "{arguments:?}: {done:?}");
    }

    fn file(&self, path: &str, text: &str) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, text).expect("it can be written");
    }

    fn commit(&self, answer: &str) {
        let plugin = |name: &str| {
            format!(
                "return {{ name = \"{name}\", version = \"1.0.0\", run = function() return \"{answer}\" end }}\n"
            )
        };
        for (file, name) in [
            ("plugins/one.lua", "git-one"),
            ("plugins/two.lua", "git-two"),
            ("alone.lua", "git-alone"),
        ] {
            self.file(file, &plugin(name));
        }
        let manifest = "entry = \"p.lua\"\nname = \"packed\"\n";
        self.file("package/plugin.toml", manifest);
        self.file("package/p.lua", &plugin("git-packed"));
        self.commit_all();
    }

    fn commit_all(&self) {
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--message=x"]);
    }

    fn source(&self, rest: &str) -> String {
        format!("git+file://{}{rest}", self.path().display())
    }
}

fn command(runner: &Runner, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    runner_tests::runner::command(runner.home())
        .args(arguments)
        .env("RUNNER_INSTANCE_FOLDER", runner.instance())
        .envs(variables.iter().copied())
        .output()
        .expect("it can be started")
}

fn log_of(runner: &Runner, plugin: &str) -> Value {
    runner.run_well(plugin, &[])["log"].clone()
}

#[test]
fn a_folder_a_package_and_a_file_of_a_repository_are_plugins() {
    let from = Repository::new();
    let sources = [
        from.source("@main#subdirectory=/plugins"),
        from.source("#egg=packed&subdirectory=package"),
        from.source("#subdirectory=alone.lua"),
        "git+https://me:t0p-secret@127.0.0.1:1/away@main".to_owned(),
        "nonsense".to_owned(),
    ];
    let mut runner = Runner::builder()
        .plugins(["stable_plugins/demo"])
        .env("GIT_PLUGINS", sources.join("\n"))
        .start();
    for plugin in [
        "git-one@1-0-0",
        "git-two@1-0-0",
        "git-packed@1-0-0",
        "git-alone@1-0-0",
    ] {
        assert_eq!(log_of(&runner, plugin), "first", "{plugin}");
    }
    // What could not be fetched took nothing down, and stands where modules do.
    let away = runner.module("away");
    assert_eq!(away["path"], "git+https://127.0.0.1:1/away@main");
    let reason = away["reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("git fetch failed: "), "{reason}");
    let malformed = runner.module("git");
    assert_eq!(malformed["path"], "nonsense");
    // The password is nowhere.
    let settings = sources.join("\n");
    let config = command(&runner, &["config"], &[("GIT_PLUGINS", &settings)]);
    let config = String::from_utf8_lossy(&config.stdout).into_owned();
    assert!(config.contains("GIT_PLUGINS=git+file://"), "{config}");
    let modules = format!("{:?}", runner.modules());
    for told in [&runner.stderr(), &runner.stdout(), &config, &modules] {
        assert!(!told.contains("t0p-secret"), "{told}");
    }
    // The repository is away: what was fetched serves.
    drop(from);
    assert!(runner.terminate().success());
    runner.restart();
    assert_eq!(log_of(&runner, "git-one@1-0-0"), "first");
    assert!(runner.stderr().contains("what was fetched before is used"));
}

#[test]
fn a_start_and_the_command_fetch_what_is_new() {
    let from = Repository::new();
    let source = from.source("@main#subdirectory=plugins");
    let mut runner = Runner::builder().env("GIT_PLUGINS", &source).start();
    assert_eq!(log_of(&runner, "git-one@1-0-0"), "first");
    from.commit("second");
    // A runner that serves stays with what it has.
    let done = command(
        &runner,
        &["plugin", "fetch", "--json"],
        &[("GIT_PLUGINS", &source)],
    );
    assert!(done.status.success(), "{done:?}");
    let document: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!(document["plugins"][0]["source"], *source);
    assert_eq!(log_of(&runner, "git-one@1-0-0"), "first");
    let folder = document["plugins"][0]["path"]
        .as_str()
        .expect("a path")
        .to_owned();
    drop(from);
    assert!(runner.terminate().success());
    runner.restart();
    assert_eq!(log_of(&runner, "git-one@1-0-0"), "second");
    assert_eq!(runner.module("one")["path"], format!("{folder}/one.lua"));
    // Without a server the same are listed, and nobody is asked.
    let listed = command(&runner, &["plugin", "list"], &[("GIT_PLUGINS", &source)]);
    assert!(
        String::from_utf8_lossy(&listed.stdout).contains("git-one"),
        "{listed:?}"
    );
    let failed = command(&runner, &["plugin", "fetch"], &[("GIT_PLUGINS", &source)]);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
}

#[test]
fn other_plugins_are_loaded_while_a_repository_is_silent() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let begin = Instant::now();
    let runner = Runner::builder()
        .plugins(["tests/fixtures/escapes"])
        .env("GIT_PLUGINS", format!("git+http://127.0.0.1:{port}/x"))
        .env("GIT_TIMEOUT", 3)
        .start_only();
    let module = runner.module("x");
    assert!(
        begin.elapsed() >= Duration::from_secs(3),
        "ready is said when all is known"
    );
    let reason = module["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("longer than 3 s, which is GIT_TIMEOUT"),
        "{reason}"
    );
    assert_eq!(runner.module("escape_lua")["state"], "RUNNING");
    assert_eq!(runner.send(&Request::get("/plugins/")).status, 200);
}

#[test]
fn nothing_of_the_account_is_heard_and_what_leaves_is_refused() {
    let from = Repository::new();
    let token = Scratch::new();
    let secret = token.file("token", "x");
    std::os::unix::fs::symlink(&secret, from.path().join("plugins/three.lua")).expect("a link");
    from.commit_all();
    let mut runner = Runner::builder()
        .env("GIT_PLUGINS", from.source("#subdirectory=plugins"))
        .start();
    let name = from
        .path()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let reason = runner.module(&name)["reason"].to_string();
    assert!(
        reason.contains("plugins/three.lua leads out of the repository"),
        "{reason}"
    );
    // A home that would run something, or send it elsewhere.
    let marker = runner.home().join("executed");
    let hostile = format!(
        "[core]\n\tfsmonitor = touch {0}\n\thooksPath = {1}\n[url \"file:///nowhere\"]\n\tinsteadOf = file://\n\
         [filter \"evil\"]\n\tsmudge = touch {0}\n",
        marker.display(),
        runner.home().display()
    );
    fs::write(runner.home().join(".gitconfig"), hostile).expect("it can be written");
    from.git(&["rm", "--quiet", "plugins/three.lua"]);
    fs::write(from.path().join(".gitattributes"), "* filter=evil\n").expect("it can be written");
    from.commit("second");
    assert!(runner.terminate().success());
    runner.restart();
    assert_eq!(log_of(&runner, "git-one@1-0-0"), "second");
    assert!(!marker.exists());
}

/// What [`traced`] says wherever it is started.
const TRACE: &str = "the unlisted one was started";

/// A plugin whose process says so when it is started.
fn traced(folder: &Scratch, name: &str) {
    let text = format!(
        "import sys\nfrom runner import plugin\nprint({TRACE:?}, file=sys.stderr, flush=True)\n\n\n\
         @plugin(version=\"1.0.0\")\ndef {name}(task):\n    return \"ran\"\n"
    );
    folder.file(&format!("{name}.py"), text);
}

#[test]
fn with_a_list_nothing_else_is_ever_started() {
    let folder = Scratch::new();
    traced(&folder, "unlisted");
    folder.file(
        "listed.lua",
        "return { name = \"listed\", version = \"1.0.0\", run = function() return \"ran\" end }\n",
    );
    let digests = || {
        let printed = runner_tests::runner::command(folder.path())
            .args(["plugin", "list", "--digests", "--plugin-folders"])
            .arg(folder.path())
            .output()
            .expect("it can be started");
        assert!(!String::from_utf8_lossy(&printed.stderr).contains(TRACE));
        String::from_utf8(printed.stdout).expect("text")
    };
    let printed = digests();
    let lines: Vec<&str> = printed
        .lines()
        .filter(|line| line.contains("# listed "))
        .collect();
    assert_eq!(lines.len(), 1, "{printed}");
    let list = folder.file("allowed.txt", lines[0]);
    let mut runner = Runner::builder()
        .plugins([folder.path()])
        .env("ALLOWED_MODULES", list.display())
        .start();
    assert_eq!(log_of(&runner, "listed@1-0-0"), "ran");
    let module = runner.module("unlisted");
    let digest = module["sha256"].as_str().expect("a digest").to_owned();
    let reason = module["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(
        reason,
        format!(
            "its digest {digest} is not in ALLOWED_MODULES: whoever trusts the module adds it there"
        )
    );
    assert!(
        printed.contains(&format!("{digest}  # unlisted ")),
        "{printed}"
    );
    // A command hears the list too, and shows the digest.
    let variables = [("ALLOWED_MODULES", list.to_str().expect("UTF-8"))];
    let path = folder.path().join("unlisted.py").display().to_string();
    let checked = command(&runner, &["plugin", "check", &path], &variables);
    assert_eq!(checked.status.code(), Some(1), "{checked:?}");
    assert!(
        String::from_utf8_lossy(&checked.stdout).contains(&digest),
        "{checked:?}"
    );
    // One byte more is another module, also where its description is remembered.
    let changed = fs::read_to_string(folder.path().join("listed.lua")).expect("text") + "\n";
    folder.file("listed.lua", changed);
    assert!(runner.terminate().success());
    runner.restart();
    assert_eq!(runner.module("listed")["state"], "EXITED");
    // Whoever adds them has them.
    folder.file("allowed.txt", digests());
    assert!(runner.terminate().success());
    runner.restart();
    assert_eq!(log_of(&runner, "listed@1-0-0"), "ran");
    assert_eq!(log_of(&runner, "unlisted@1-0-0"), "ran");
    assert!(runner.stderr().contains(TRACE), "{}", runner.stderr());
}

#[test]
fn a_module_that_is_listed_does_not_bring_its_neighbours() {
    let folder = Scratch::new();
    folder.file("neighbour.py", "ANSWER = \"from a neighbour\"\n");
    folder.file(
        "asks.py",
        "from runner import plugin\n\n\n@plugin(version=\"1.0.0\")\ndef asks(task):\n    import neighbour\n    \
         return neighbour.ANSWER\n",
    );
    let mut runner = Runner::builder().plugins([folder.path()]).start();
    assert_eq!(log_of(&runner, "asks@1-0-0"), "from a neighbour");
    let digest = runner.module("asks")["sha256"]
        .as_str()
        .expect("a digest")
        .to_owned();
    assert!(runner.terminate().success());
    let runner = Runner::builder()
        .plugins([folder.path()])
        .env("ALLOWED_MODULES", digest)
        .start();
    let log = runner.run_badly("asks@1-0-0", &[]);
    assert!(log.contains("neighbour"), "{log}");
}
