//! What a call of a warm host costs, and a cold start, for each kind of module: the plugin protocol alone,
//! without SQL and HTTP, sandbox on. Beside it the limits.
//!
//! ```sh
//! cargo build --release -p runner
//! cargo run --release -p runner-bench --example hosts
//! ```
//!
//! Calls are made in a worker thread of the runtime, as in a runner. C is built with `cc`, WebAssembly with
//! `clang` where it can; else the one that stands with the tests is taken. `PYTHON` names the interpreter, and
//! an argument the kind that is measured alone, by a part of its name.

use std::error::Error;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use runner_host::host::Patience;
use runner_host::protocol::{OUTPUT_TEXT, RunEvent, RunRequest};
use runner_host::{Launcher, Lease, Modules, ModulesConfig, NoCache, RunEnd, RunHandler, Trust};
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

/// Calls that are not counted.
const WARM_UP: usize = 200;
/// Calls that are.
const CALLS: usize = 3_000;
/// Cold starts.
const STARTS: usize = 15;

/// A kind of module, with its limits.
struct Kind {
    name: &'static str,
    /// Of a call, in microseconds.
    call: f64,
    /// Of a start, in milliseconds; where there is one.
    start: Option<f64>,
    module: PathBuf,
}

const PYTHON: &str =
    "from runner import plugin\n\n\n@plugin(version=\"1.0.0\")\ndef empty(task):\n    pass\n";
const LUA: &str = "return { name = \"empty\", version = \"1.0.0\", run = function() end }\n";
const C: &str = "#include \"runner_plugin.h\"\n\
    static const char *empty(struct runner_task *task) { (void)task; return NULL; }\n\
    static const struct runner_definition plugins[] = {\n\
    {\"empty\", \"1.0.0\", \"\", \"{}\", empty, NULL}};\nRUNNER_PLUGINS(plugins);\n";
const EXEC: &str = r#"#!/usr/bin/env python3
import json, sys
ANSWERS = {"welcome": {"protocol": 1, "framing": "lines"}, "run": {},
           "describe": {"plugins": [{"name": "empty", "version": "1.0.0"}]}}
for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        answer = {"jsonrpc": "2.0", "id": request["id"], "result": ANSWERS[request["method"]]}
        print(json.dumps(answer), flush=True)
"#;

/// What goes wrong is told, and ends it.
type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let target = std::env::current_exe()?;
    let runner = target
        .ancestors()
        .nth(2)
        .ok_or("no target folder")?
        .join("runner");
    let scratch = std::env::temp_dir().join(format!("runner-hosts-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let launcher = Launcher::start(&runner, &runner_host::SandboxConfig::default())
        .map_err(|error| format!("build {} first: {error}", runner.display()))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let done = kinds(&scratch).and_then(|kinds| {
        println!(
            "{:<16} {:>10} {:>10} {:>8}   {:>10} {:>8}",
            "kind", "call p50", "p95", "limit", "start p50", "limit"
        );
        let only = std::env::args().nth(1).unwrap_or_default();
        for kind in kinds.into_iter().filter(|kind| kind.name.contains(&only)) {
            let measured = measure(kind, runner.clone(), scratch.clone(), launcher.clone());
            runtime.block_on(runtime.spawn(measured))??;
        }
        Ok(())
    });
    drop(launcher);
    let _ = fs::remove_dir_all(&scratch);
    done
}

fn kinds(folder: &Path) -> Result<Vec<Kind>, Failure> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let write = |name: &str, text: &str| -> std::io::Result<PathBuf> {
        let path = folder.join(name);
        fs::write(&path, text)?;
        Ok(path)
    };
    let source = write("empty.c", C)?;
    let build = |program: &str, arguments: &[&str], name: &str| {
        let target = folder.join(name);
        let done = Command::new(program)
            .args(arguments)
            .arg("-O2")
            .arg("-I")
            .arg(repository.join("sdk/c"))
            .arg("-o")
            .args([&target, &source])
            .output();
        done.is_ok_and(|done| done.status.success())
            .then_some(target)
    };
    let native = build("cc", &["-shared", "-fPIC"], "empty.so").ok_or("cc does not build")?;
    let wasm = build("clang", &["--target=wasm32-wasi", "-s"], "empty.wasm");
    let wasm =
        wasm.unwrap_or_else(|| repository.join("tests/fixtures/conformance/conformance.wasm"));
    let exec = write("empty-exec", EXEC)?;
    fs::set_permissions(&exec, fs::Permissions::from_mode(0o755))?;
    let forks = folder.join("forks");
    fs::create_dir_all(&forks)?;
    fs::write(forks.join("empty_forks.py"), PYTHON)?;
    let manifest = "entry = \"empty_forks.py\"\nisolation = \"process\"\n";
    fs::write(forks.join("plugin.toml"), manifest)?;
    let kind = |name, call, start, module| Kind {
        name,
        call,
        start,
        module,
    };
    Ok(vec![
        kind("shared object", 100.0, Some(10.0), native),
        kind("Lua", 100.0, Some(10.0), write("empty.lua", LUA)?),
        kind("executable", 100.0, None, exec),
        kind("WebAssembly", 150.0, None, wasm),
        kind("Python", 200.0, None, write("empty_py.py", PYTHON)?),
        kind("Python, forks", 3_000.0, Some(40.0), forks),
    ])
}

async fn measure(
    kind: Kind,
    runner: PathBuf,
    scratch: PathBuf,
    launcher: Launcher,
) -> Result<(), Failure> {
    let modules = Modules::new(
        ModulesConfig {
            folders: Vec::new(),
            trust: Trust::default(),
            instance: scratch.join("instance"),
            runner,
            python: std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned()),
            loaders: runner_host::loader::Loaders::default(),
            patience: Patience {
                describe: Duration::from_secs(30),
                cancel: Duration::from_millis(500),
            },
            idle: Duration::from_secs(60),
            max_hosts: STARTS + 1,
            network: runner_host::NetworkRule::default(),
            limits: runner_host::Limits::default(),
            drain: Duration::from_secs(30),
            environments: runner_host::EnvironmentsConfig {
                folder: scratch.join("instance/environments"),
                shared: None,
                makes: true,
                builds: false,
                limit: Duration::from_secs(600),
            },
        },
        launcher,
        Arc::new(NoCache),
        Arc::new(NoCache),
        Arc::new(NoCache),
    );
    modules.load_only(&kind.module, None).await?;
    let table = modules.table();
    let module = Arc::clone(table.modules.first().ok_or("nothing was loaded")?);
    let Some(provided) = table.plugins().first() else {
        return Err(module.status().reason.unwrap_or_default().into());
    };
    let mut starts = Vec::new();
    let mut leases = Vec::new();
    for _ in 0..=STARTS {
        let begin = Instant::now();
        let lease = module.lease().await?;
        starts.push(begin.elapsed());
        leases.push(lease);
    }
    // The first one was there already, from the description.
    starts.remove(0);
    let mut lease = leases.swap_remove(0);
    drop(leases);
    let folder = lease.folder()?;
    let mut request = RunRequest {
        task: 0,
        run: 1,
        plugin: provided.plugin.identifier.clone(),
        step: None,
        step_id: None,
        parameters: Map::from_iter([("act".to_owned(), json!("data"))]),
        inputs: Map::new(),
        data: Value::Null,
        directory: folder.work().display().to_string(),
        base_url: "http://127.0.0.1:5005".to_owned(),
        output_text: OUTPUT_TEXT,
    };
    let mut calls = Vec::with_capacity(CALLS);
    for number in 0..WARM_UP + CALLS {
        request.task += 1;
        let begin = Instant::now();
        call(&mut lease, &request).await?;
        if number >= WARM_UP {
            calls.push(begin.elapsed());
        }
    }
    drop(folder);
    calls.sort();
    starts.sort();
    let micro = |time: Duration| time.as_secs_f64() * 1e6;
    let start = starts[starts.len() / 2].as_secs_f64() * 1e3;
    println!(
        "{:<16} {:>7.1} µs {:>7.1} µs {:>5.0} µs   {:>7.1} ms {:>8}",
        kind.name,
        micro(calls[CALLS / 2]),
        micro(calls[CALLS * 95 / 100]),
        kind.call,
        start,
        kind.start
            .map_or(String::new(), |limit| format!("{limit:.0} ms")),
    );
    modules.close();
    Ok(())
}

async fn call(lease: &mut Lease, request: &RunRequest) -> Result<(), Failure> {
    let cancel = CancellationToken::new();
    match lease
        .run(request, Duration::from_secs(30), &Deaf, &cancel)
        .await
    {
        RunEnd::Finished(_) => Ok(()),
        other => Err(format!("the run did not succeed: {other:?}").into()),
    }
}

/// Hears nothing.
struct Deaf;

impl RunHandler for Deaf {
    fn event(&self, _: RunEvent) {}

    fn fetch(&self, _: String) -> BoxFuture<'static, Result<Value, String>> {
        Box::pin(async { Err("nothing is fetched here".to_owned()) })
    }
}
