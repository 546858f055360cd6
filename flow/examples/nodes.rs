//! How fast nodes in hosts are, beside built-ins and limits: `cargo build --release -p runner-flow --example nodes`
//! and `-p runner-sdk --example seed_nodes`, then `target/release/examples/nodes`. WebAssembly is measured where clang
//! can build it (packages as in CONTRIBUTING.md) and a runner lies in the folder above.
//!
//! Prints items for each second of CPU time of the seed's test graph, in all processes together, and how many
//! times the seed's 17,000 that is; then the same of an edge between two tasks and of a line of the protocol alone.
//! Hosts are started without a sandbox, which changes nothing of what they do then.

use std::collections::HashMap;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use runner_flow::{Hosts, Nodes, Opening};
use runner_host::manifest::GuestLimits;
use runner_host::protocol::{NodeOpened, NodeRequest};
use runner_pipeline::graph::NodeSpec;
use runner_pipeline::surroundings::NewFile;
use runner_pipeline::types::ItemType;
use runner_pipeline::{Call, Catalog, Checked, Foreign, Graph, Lowering, Surroundings, start};
use serde_json::{Map, Value, json};

/// What the seed does on its test graph, in items for each second of CPU time (Python 3.11).
const SEED: f64 = 17_000.0;
/// Items of the seed's test.
const ITEMS: usize = 20_000;
/// Runs of which the best is told: other work on the machine only slows one down.
const RUNS: usize = 10;
/// Items that an edge holds.
const BOUND: usize = 1024;

const PYTHON: &str = "
from runner import node

@node(version='1.0.0')
def n1(item):
    return item[::-1]

@node(version='1.0.0')
def n2(item):
    return item.upper()

@node(version='1.0.0')
def n3(item):
    return [item[0].lower(), item[1].lower()]
";

const LUA: &str = "
return {
  { name = 'n1', version = '1.0.0', node = function(item) return item:reverse() end },
  { name = 'n2', version = '1.0.0', node = function(item) return item:upper() end },
  { name = 'n3', version = '1.0.0', node = function(item) return { item[1]:lower(), item[2]:lower() } end },
}
";

fn main() {
    let mut arguments = std::env::args().skip(1);
    let module = |path: Option<String>| PathBuf::from(path.unwrap_or_default());
    match arguments.next().as_deref() {
        Some("lua-host") => {
            let path = module(arguments.next());
            let folder = path.parent().unwrap_or(Path::new(".")).to_owned();
            runner_host::lua::lua_host_main(path, folder, GuestLimits::default()).expect("a host");
        }
        Some("native-host") => {
            runner_host::native::native_host_main(module(arguments.next())).expect("a host");
        }
        _ => measure_all(),
    }
}

fn measure_all() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let folder = std::env::temp_dir().join(format!("runner-nodes-{}", std::process::id()));
    std::fs::create_dir(&folder).expect("a folder");
    let own = std::env::current_exe().expect("this program");
    let library = own.with_file_name("libseed_nodes.so");
    let python = folder.join("seed.py");
    let lua = folder.join("seed.lua");
    std::fs::write(&python, PYTHON).expect("a file");
    std::fs::write(&lua, LUA).expect("a file");
    let sdk = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/python");
    let host = |kind: &str, module: &Path| {
        let mut command = Command::new(&own);
        command.arg(kind).arg(module);
        command
    };
    let mut python_host = Command::new("python3");
    python_host
        .args(["-m", "runner.host"])
        .arg(&python)
        .env("PYTHONPATH", sdk);
    runtime.expect("a runtime").block_on(async {
        tell("built in", Some(50.0), best(None).await);
        tell(
            "Lua in a host",
            Some(20.0),
            best(Some(host("lua-host", &lua))).await,
        );
        tell(
            "native in a host",
            Some(15.0),
            best(Some(host("native-host", &library))).await,
        );
        tell("Python in a host", Some(6.0), best(Some(python_host)).await);
        match wasm_host(&own, &folder) {
            Ok(wasm_host) => tell("WebAssembly in a host", None, best(Some(wasm_host)).await),
            Err(why) => println!("WebAssembly is not measured: {why}"),
        }
    });
    line_alone();
    let _ = std::fs::remove_dir_all(&folder);
}

/// The host of the same functions in WebAssembly.
fn wasm_host(own: &Path, folder: &Path) -> Result<Command, String> {
    let runner = own.ancestors().nth(2).unwrap_or(own).join("runner");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = folder.join("seed.wasm");
    let mut clang = Command::new("clang");
    clang
        .args(["--target=wasm32-wasi", "-O2", "-s", "-o"])
        .arg(&module)
        .arg("-I")
        .arg(source.join("../sdk/c"))
        .arg(source.join("examples/seed_nodes.c"));
    let mut compile = Command::new(&runner);
    compile.arg("wasm-compile").args([&module, folder]);
    let mut said = String::new();
    for command in [&mut clang, &mut compile] {
        let program = command.get_program().to_owned();
        let done = command
            .output()
            .map_err(|error| format!("{program:?}: {error}"))?;
        if !done.status.success() {
            return Err(String::from_utf8_lossy(&done.stderr).into_owned());
        }
        said = String::from_utf8_lossy(&done.stdout).trim().to_owned();
    }
    let mut host = Command::new(runner);
    host.arg("wasm-host").arg(said);
    Ok(host)
}

fn tell(what: &str, wanted: Option<f64>, rate: f64) {
    let wanted = wanted.map_or_else(String::new, |wanted| format!(" (wanted: {wanted})"));
    let times = rate / SEED;
    println!(
        "seed's test graph, {ITEMS} items, {what}: {rate:.0} per CPU second, {times:.1} times the seed{wanted}"
    );
}

/// The best of several runs with nodes of this host, or of built-ins.
async fn best(host: Option<Command>) -> f64 {
    let process = host.map(|command| Arc::new(Process::start(command)));
    let mut best: f64 = 0.0;
    for _ in 0..RUNS {
        let run = run(process.clone());
        best = best.max(run.await);
        if let Some(process) = &process {
            process.again();
        }
    }
    best
}

/// The seed's test graph: n1 reverses, n2 makes upper case, n3 lower case of both, n4 takes all.
fn graph(is_built_in: bool) -> Value {
    let texts: Vec<Value> = (0..ITEMS).map(|n| json!(format!("Text {n}"))).collect();
    let from = |node: &str| json!({"node": node, "bound": BOUND});
    let node = |name: &str, expression: &str, from: Value| match is_built_in {
        true => json!({"use": "map", "with": expression, "from": from}),
        false => json!({"use": name, "from": from}),
    };
    json!({"nodes": {
        "inp": {"use": "source", "with": texts},
        "n1": node("n1", "item | reverse", from("inp")),
        "n2": node("n2", "item | upper", from("n1")),
        "n3": node("n3", "[item[0] | lower, item[1] | lower]", json!([from("n1"), from("n2")])),
        "n4": {"use": "merge", "from": [from("n2"), from("n3")]},
        "out": {"use": "sink", "with": "output", "from": from("n4")},
    }})
}

/// One run; items for each second of CPU time of this process and the host.
async fn run(process: Option<Arc<Process>>) -> f64 {
    let graph = Graph::from_json(&graph(process.is_none())).expect("a graph");
    let checked = Checked::new(graph, &Anything).expect("a graph that can run");
    let nodes = match &process {
        Some(process) => {
            let hosts = Arc::clone(process) as Arc<dyn Hosts>;
            let opened = Nodes::open(hosts, checked.graph(), &Map::new()).await;
            Some(opened.expect("nodes"))
        }
        None => None,
    };
    let pid = process.as_ref().map(|process| process.pid());
    let spent = || cpu_seconds(Pid::this()) + pid.map_or(0.0, cpu_seconds);
    let before = spent();
    let started = start(&checked, &Map::new(), &InHosts(nodes), Lowering::default());
    let (run, mut outputs) = started.expect("a run");
    let reading = async move {
        let mut count = 0;
        while outputs.next().await.is_some() {
            count += 1;
        }
        count
    };
    let (ended, count) = tokio::join!(run.wait(), reading);
    ended.expect("the run ends well");
    assert_eq!(count, 2 * ITEMS);
    ITEMS as f64 / (spent() - before)
}

/// Seconds of CPU time of a process, with those of its threads that have ended.
fn cpu_seconds(process: Pid) -> f64 {
    let clock = clock_getcpuclockid(process).expect("the clock of a living process");
    let spent = Duration::from(clock.now().expect("its time"));
    spent.as_secs_f64()
}

/// Every name is that of a node.
struct Anything;

impl Catalog for Anything {
    fn find(&self, _: &NodeSpec) -> Result<Option<Foreign>, String> {
        Ok(Some(Foreign {
            takes: ItemType::Any,
            gives: ItemType::Any,
        }))
    }
}

struct InHosts(Option<Nodes>);

impl Surroundings for InHosts {
    fn open(&self, _: &str) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn create(&self, _: &str) -> std::io::Result<Box<dyn NewFile>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn node(&self, node: &NodeSpec) -> Result<Arc<dyn Call>, String> {
        let hosted = self.0.as_ref().and_then(|nodes| nodes.get(&node.name));
        hosted.ok_or_else(|| "there is no host".to_owned())
    }
}

/// A host, with a socket for each run.
struct Process(Mutex<Living>);

struct Living {
    command: Command,
    child: Child,
    socket: Option<UnixStream>,
}

impl Process {
    fn start(mut command: Command) -> Self {
        let (child, socket) = spawn(&mut command);
        Self(Mutex::new(Living {
            command,
            child,
            socket: Some(socket),
        }))
    }

    /// A host ends with its socket: the next run has another.
    fn again(&self) {
        let mut living = self.living();
        let _ = living.child.kill();
        let _ = living.child.wait();
        let (child, socket) = spawn(&mut living.command);
        (living.child, living.socket) = (child, Some(socket));
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.living().child.id().cast_signed())
    }

    fn living(&self) -> std::sync::MutexGuard<'_, Living> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut living = self.living();
        let _ = living.child.kill();
        let _ = living.child.wait();
    }
}

/// Starts the host with a socket as its descriptor 3, and greets it.
fn spawn(command: &mut Command) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("a socket pair");
    // The shell moves what comes as standard output, so that nothing is done between fork and exec.
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$@\" 3>&1 1>/dev/null", "host"]);
    shell.arg(command.get_program()).args(command.get_args());
    let environment: HashMap<_, _> = command.get_envs().collect();
    for (key, value) in environment {
        shell.env(key, value.unwrap_or_default());
    }
    let mut child = shell
        .stdin(Stdio::piped())
        .stdout(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
        .spawn()
        .expect("a host");
    let config = json!({"items": {"fd": 3}});
    let params = json!({"protocol": 1, "name": "seed", "uuid": "", "args": [], "config": config});
    let welcome = json!({"jsonrpc": "2.0", "id": 1, "method": "welcome", "params": params});
    let input = child.stdin.as_mut().expect("its input");
    writeln!(input, "{welcome}").expect("it reads");
    (child, ours)
}

impl Hosts for Process {
    fn open(&self, request: NodeRequest) -> Opening<'_> {
        let socket = self.living().socket.take();
        let opened = NodeOpened {
            host: Some(1),
            is_new: socket.is_some(),
            plugin: format!("{}@1-0-0", request.plugin),
            with: Some(Map::new()),
            repeatable: true,
            ..NodeOpened::default()
        };
        Box::pin(async move { Ok((opened, socket)) })
    }
}

/// What a line with a batch of short texts costs, there and back, with nothing behind it.
fn line_alone() {
    let items: Vec<Value> = (0..BOUND).map(|n| json!(format!("Text {n}"))).collect();
    let began = Instant::now();
    let rounds = 200;
    for id in 0..rounds {
        let asked =
            json!({"jsonrpc": "2.0", "id": id, "method": "items", "params": {"items": items}});
        let text = asked.to_string();
        let read: Value = serde_json::from_str(&text).expect("JSON");
        let made: Vec<Value> = read["params"]["items"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|item| json!([item]))
            .collect();
        let answered = json!({"id": id, "result": {"made": made}}).to_string();
        let _: Value = serde_json::from_str(&answered).expect("JSON");
    }
    let rate = (rounds * BOUND) as f64 / began.elapsed().as_secs_f64();
    println!(
        "a line of {BOUND} short items and its answer, written and read, with nothing between: {rate:.0} items/s"
    );
}
