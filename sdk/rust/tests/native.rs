//! Real shared objects through `NativeLibrary`: the hello-world plugin, the example `trial`, and
//! libraries that keep to the ABI by hand, or break it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use runner_sdk::failure::code;
use runner_sdk::{Error, HostCalls, NativeLibrary, RunFailure, Value, json};

/// A host that writes down what it is told and knows one request.
#[derive(Default)]
struct Host {
    told: Mutex<Vec<(String, Value)>>,
    panics: bool,
}

impl Host {
    /// The params of all notifications of a method.
    fn told(&self, method: &str) -> Vec<Value> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter(|(name, _)| name == method)
            .map(|(_, params)| params.clone())
            .collect()
    }
}

impl HostCalls for Host {
    fn notify(&self, method: &str, params: Value) {
        assert!(!self.panics, "the host panics");
        self.told.lock().unwrap().push((method.to_owned(), params));
    }

    fn request(&self, method: &str, params: Value) -> Result<Value, RunFailure> {
        match method {
            "fetch" if params["url"] == "data:,hello" => Ok(json!({
                "path": "/in/1", "name": "hello", "contentType": "text/plain",
                "dataType": "", "size": 5,
            })),
            _ => Err(RunFailure::new(
                code::UNKNOWN_METHOD,
                format!("no request `{method}`"),
            )),
        }
    }
}

/// The folder of this test's executable, where its dependencies are.
fn deps() -> PathBuf {
    std::env::current_exe()
        .unwrap()
        .parent()
        .unwrap()
        .to_owned()
}

fn hello_world() -> NativeLibrary {
    NativeLibrary::open(deps().join("libhello_world.so")).unwrap()
}

/// The example; cargo has built it unless only this test was asked for.
fn trial() -> NativeLibrary {
    static BUILD: std::sync::Once = std::sync::Once::new();
    let path = deps().parent().unwrap().join("examples/libtrial.so");
    BUILD.call_once(|| {
        if !path.exists() {
            let mut cargo = Command::new(env!("CARGO"));
            cargo.args([
                "build",
                "-p",
                "runner-sdk",
                "--example",
                "trial",
                "--features",
                "host",
            ]);
            assert!(cargo.status().unwrap().success());
        }
    });
    NativeLibrary::open(path).unwrap()
}

/// Builds the raw library, broken as `cfg` says.
fn raw(directory: &Path, cfg: &str) -> PathBuf {
    let path = directory.join(format!("lib{cfg}.so"));
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc)
        .args([
            "--edition=2024",
            "--crate-type=cdylib",
            "--crate-name=raw",
            "-Aunexpected_cfgs",
        ])
        .args(["--cfg", cfg, "-o"])
        .arg(&path)
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/fixtures/raw.rs"
        ))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    path
}

fn params(plugin: &str, parameters: Value, directory: &Path) -> Value {
    json!({
        "task": 7, "run": 2, "plugin": plugin, "step": null, "stepId": null,
        "parameters": parameters, "inputs": {}, "data": null, "directory": directory,
    })
}

/// Runs a deed of the example.
fn deed(deed: &str, host: &Host) -> Result<Value, RunFailure> {
    let directory = tempfile::tempdir().unwrap();
    trial().run(
        &params("deeds@1-0-0", json!({"deed": deed}), directory.path()),
        host,
    )
}

#[test]
fn hello_world_describes_itself_and_runs() {
    let library = hello_world();
    let description = library.describe().unwrap();
    assert_eq!(description["plugins"][0]["name"], "hello-world");
    assert_eq!(description["plugins"].as_array().unwrap().len(), 1);
    assert_eq!(description["depends"], json!([]));

    let (host, directory) = (Host::default(), tempfile::tempdir().unwrap());
    let params = params(
        "hello-world@v0-2-1",
        json!({"inputStr": "my input"}),
        directory.path(),
    );
    let result = library.run(&params, &host).unwrap();
    assert_eq!(result, json!({"log": "result: 'my output'"}));
    let [output] = &host.told("output")[..] else {
        panic!("{:?}", host.told)
    };
    assert_eq!(output["name"], "out.txt");
    assert_eq!(output["task"], 7);
    let path = directory.path().join(output["path"].as_str().unwrap());
    assert_eq!(std::fs::read_to_string(path).unwrap(), "my output");
}

#[test]
fn a_library_is_opened_twice_and_from_threads() {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(hello_world().describe().is_ok()));
        }
    });
}

#[test]
fn a_panic_is_a_failure_with_its_place() {
    let failure = deed("panic", &Host::default()).unwrap_err();
    assert_eq!(failure.code, code::FAILED);
    assert_eq!(failure.message, "panicked: a deliberate panic");
    let traceback = failure.traceback.unwrap();
    assert!(traceback.contains("trial.rs:"), "{traceback}");
    assert_eq!(
        deed("escape", &Host::default()).unwrap()["log"],
        "joined: false"
    );
}

#[test]
fn an_error_is_a_failure_with_its_place() {
    let failure = deed("fail", &Host::default()).unwrap_err();
    assert_eq!(failure.message, "No such file or directory (os error 2)");
    let traceback = failure.traceback.unwrap();
    assert!(traceback.contains("trial.rs:"), "{traceback}");
}

#[test]
fn a_cancelled_run_ends() {
    let library = trial();
    let (host, directory) = (Host::default(), tempfile::tempdir().unwrap());
    let params = params("deeds@1-0-0", json!({"deed": "wait"}), directory.path());
    let start = Instant::now();
    let failure = std::thread::scope(|scope| {
        let run = scope.spawn(|| library.run(&params, &host));
        while host.told("log").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(1));
        }
        // Neither another task nor another run of this one.
        library.cancel(8, 2);
        library.cancel(7, 1);
        std::thread::sleep(Duration::from_millis(20));
        assert!(!run.is_finished());
        library.cancel(7, 2);
        run.join().unwrap().unwrap_err()
    });
    assert_eq!(failure, RunFailure::new(code::CANCELLED, "cancelled"));
    library.cancel(7, 2);
}

#[test]
fn requests_are_answered() {
    assert_eq!(deed("fetch", &Host::default()).unwrap()["log"], "hello 5");
}

#[test]
fn notifications_arrive_in_order_and_from_threads() {
    let host = Host::default();
    assert_eq!(deed("say", &host).unwrap(), json!({}));
    let told = std::mem::take(&mut *host.told.lock().unwrap());
    assert_eq!(
        told,
        [
            ("log", json!({"text": "from the plugin", "task": 7})),
            (
                "progress",
                json!({"value": 50, "start": 0, "target": 100, "unit": "%", "task": 7})
            ),
            (
                "progress",
                json!({"value": 1.5, "start": 0, "target": 3, "unit": "steps", "task": 7})
            ),
            (
                "link",
                json!({"type": "docs", "href": "https://example.org/", "task": 7})
            ),
            ("log", json!({"text": "from a thread", "task": 7})),
        ]
        .map(|(method, params)| (method.to_owned(), params))
    );
}

#[test]
fn a_step_follows_a_run_with_its_data() {
    let library = trial();
    let (host, directory) = (Host::default(), tempfile::tempdir().unwrap());
    let mut params = params("greeter@0-1", json!({}), directory.path());
    let result = library.run(&params, &host).unwrap();
    assert_eq!(
        result,
        json!({"log": "asked", "data": {"greeting": "Hello"}})
    );
    assert_eq!(
        host.told("step"),
        [json!({"step": "name", "stepId": "name", "values": {"name": "you"}, "task": 7})]
    );
    params["step"] = json!("name");
    params["data"] = result["data"].clone();
    params["parameters"] = json!({"name": "Ada"});
    assert_eq!(
        library.run(&params, &host).unwrap(),
        json!({"log": "Hello, Ada!"})
    );
}

#[test]
fn what_does_not_fit_the_protocol_is_cut_or_refused() {
    let host = Host::default();
    deed("flood", &host).unwrap();
    let text = host.told("log")[0]["text"].as_str().unwrap().to_owned();
    assert!(text.len() < 1 << 20 && text.contains("bytes cut"));
    let failure = deed("hoard", &host).unwrap_err();
    assert!(
        failure.message.contains("use an output file instead"),
        "{failure}"
    );
    let failure = deed("forget", &host).unwrap_err();
    assert_eq!(failure.message, "the output `lost.txt` was never finished");
}

#[test]
fn wrong_params_are_refused() {
    let library = hello_world();
    let failure = library
        .run(&json!({"task": "seven"}), &Host::default())
        .unwrap_err();
    assert_eq!(failure.code, code::INVALID_PARAMS);
    assert!(
        failure
            .message
            .starts_with("the params of `run` are wrong: "),
        "{failure}"
    );
    let failure = library
        .run(
            &params("other@1-0-0", json!({}), Path::new("/tmp")),
            &Host::default(),
        )
        .unwrap_err();
    assert_eq!(failure.code, code::INVALID_PARAMS);
    assert_eq!(
        failure.message,
        "the library has no plugin `other@1-0-0`, only hello-world@v0-2-1"
    );
    let mut params = params("hello-world@v0-2-1", json!({}), Path::new("/tmp"));
    params["step"] = json!("second");
    let failure = library.run(&params, &Host::default()).unwrap_err();
    assert_eq!(failure.message, "this plugin has no step `second`");
}

#[test]
fn a_panic_of_the_host_stays_on_its_side() {
    let host = Host {
        panics: true,
        ..Host::default()
    };
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| deed("say", &host)));
    assert_eq!(
        *result.unwrap_err().downcast::<&str>().unwrap(),
        "the host panics"
    );
}

#[test]
fn a_library_without_the_sdk_works() {
    let directory = tempfile::tempdir().unwrap();
    let library = NativeLibrary::open(raw(directory.path(), "good")).unwrap();
    assert_eq!(library.describe().unwrap()["plugins"][0]["name"], "raw");
    let host = Host::default();
    let failure = library.run(&json!({}), &host).unwrap_err();
    assert_eq!(
        (failure.code, failure.message.as_str()),
        (-5, "raw failure")
    );
    assert_eq!(failure.traceback.as_deref(), Some("deep"));
    assert_eq!(host.told("log"), [json!({"text": "raw"})]);
    assert_eq!(
        library.run(&json!("request"), &host),
        Ok(json!({"log": "unknown"}))
    );
    let failure = library.run(&json!("mumble"), &host).unwrap_err();
    assert_eq!(failure.code, code::INTERNAL);
    assert!(
        failure.message.contains("sent a message that is none"),
        "{failure}"
    );
    library.cancel(1, 1);
}

#[test]
fn answers_that_are_no_json_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let library = NativeLibrary::open(raw(directory.path(), "garbage")).unwrap();
    let error = library.describe().unwrap_err().to_string();
    assert!(error.contains("cannot describe its plugins"), "{error}");
    assert!(error.contains("answered `describe` wrongly"), "{error}");
    let failure = library.run(&json!({}), &Host::default()).unwrap_err();
    assert!(
        failure.message.contains("answered `run` wrongly: expected"),
        "{failure}"
    );
}

#[test]
fn libraries_that_break_the_abi_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    for (cfg, expected) in [
        (
            "version_2",
            "has version 2 of the plugin ABI, this runner has version 1",
        ),
        (
            "no_version",
            "is no plugin library: it has no symbol `runner_plugin_abi`",
        ),
        (
            "no_table",
            "is no plugin library: it has no symbol `runner_plugin_table`",
        ),
        (
            "null_table",
            "breaks the plugin ABI: its table is null or not aligned",
        ),
        (
            "small",
            "breaks the plugin ABI: its table has 8 bytes instead of 40",
        ),
        (
            "null_function",
            "breaks the plugin ABI: one of its functions is null",
        ),
    ] {
        let path = raw(directory.path(), cfg);
        let error = NativeLibrary::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{cfg}: {error}");
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
}

#[test]
fn what_is_no_library_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let text = directory.path().join("text.so");
    std::fs::write(&text, "not ELF").unwrap();
    for path in [text.as_path(), Path::new("/no/such.so"), directory.path()] {
        let error = NativeLibrary::open(path).unwrap_err();
        assert!(matches!(error, Error::Load { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
    // Not the C library of the system, which a bare name would find.
    assert!(matches!(
        NativeLibrary::open("libc.so.6").unwrap_err(),
        Error::Load { .. }
    ));
}

#[test]
fn a_short_output_is_told_as_text_where_the_runner_takes_it() {
    let (host, directory) = (Host::default(), tempfile::tempdir().unwrap());
    let parameters = json!({"inputStr": "my input"});
    let mut params = params("hello-world@v0-2-1", parameters, directory.path());
    params["outputText"] = json!(1000);
    hello_world().run(&params, &host).unwrap();
    let output = &host.told("output")[0];
    assert_eq!(output["text"], "my output");
    assert_eq!(output.get("path"), None);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}
