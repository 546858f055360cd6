//! The image without an engine: its entry point as the Dockerfile has it, in a root folder of its own, with the same
//! user and variables.

mod image;
mod machine;

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use runner_tests::scratch::Scratch;
use runner_tests::{Request, eventually};
use serde_json::Value;

use self::image::Image;
use self::machine::{Machine, free_port};

/// How long a container may take to be healthy, and a task to end.
const SOON: Duration = Duration::from_secs(60);

/// A plugin that needs a package, and tells which it found.
const WORDY: &str = r#"
import wordlist
from runner import plugin

@plugin(version="1")
def wordy(task):
    return f"version {wordlist.VERSION} from {wordlist.__file__}"
"#;

/// The task that a request makes, when it has ended.
fn outcome(address: SocketAddr, request: &Request) -> Value {
    let send = |request: &Request| request.send(address).expect("an answer");
    let answer = send(request).expect(303);
    let location = answer.header("location").expect("a location").to_owned();
    eventually("the task to end", SOON, || {
        let task: Value = send(&Request::get(&location)).json();
        (task["status"] != "PENDING").then_some(task)
    })
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
    let task = outcome(address, &process.form(&[("inputStr", "contained")]));
    assert_eq!(task["status"], "SUCCESS", "{task:#}");
    let href = task["outputs"][0]["href"].as_str().expect("an output");
    let path = &href[href.find("/files/").expect("a file")..];
    assert!(send(&Request::get(path)).text().contains("contained"));
    let task = outcome(
        address,
        &Request::post("/plugins/from-git@1-0-0/process/").form(&[]),
    );
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
fn a_child_image_brings_its_plugins_and_their_packages_along() {
    let Some(mut machine) = Machine::new() else {
        return;
    };
    let installer = machine.output(
        &["sh", "-c", "command -v uv || python3 -m pip --version"],
        &[],
    );
    if !installer.status.success() {
        println!("skipped: neither uv nor pip is in /usr");
        return;
    }
    let made = Scratch::new();
    let context = made.path().join("context");
    let plugin = context.join("my-plugins/wordy");
    fs::create_dir_all(&plugin).expect("it can be made");
    fs::write(
        plugin.join("plugin.toml"),
        "entry = \"wordy.py\"\nrequirements = [\"wordlist==1.0\"]\n",
    )
    .expect("it can be written");
    fs::write(plugin.join("wordy.py"), WORDY).expect("it can be written");
    let wheels = made.path().join("wheels");
    fs::create_dir(&wheels).expect("it can be made");
    let wheel = Command::new("python3")
        .arg(runner_tests::repository("tests/fixtures/wheel.py"))
        .args(["wordlist", "1.0"])
        .arg(&wheels)
        .status();
    assert!(wheel.is_ok_and(|status| status.success()));
    machine.build(&context, &wheels);
    let environments = &machine.layers["/app/environments"];
    let count = fs::read_dir(environments).expect("the layer").count();
    assert!(count > 0, "nothing was installed into the image");

    let port = free_port();
    let (mut server, variables) = machine.start("server", port);
    let (mut worker, _) = machine.start("worker", port);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let task = outcome(
        address,
        &Request::post("/plugins/wordy@1/process/").form(&[]),
    );
    let log = task["log"].as_str().unwrap_or_default();
    assert!(log.contains("version 1.0 from /app/environments/"), "{log}");
    // It was not installed a second time, into the volume.
    let shell = machine.output(&["sh", "-c", "ls /app/instance/environments"], &variables);
    assert_eq!(String::from_utf8_lossy(&shell.stdout), "", "{shell:?}");
    assert!(worker.terminate().success(), "{}", worker.stderr());
    assert!(server.terminate().success(), "{}", server.stderr());
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
