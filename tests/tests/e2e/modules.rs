//! Modules that are changed while the runner runs.

mod bad_input;
mod lives;
mod messages;
mod replacing;
mod wanted;
mod watch;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_tests::Runner;
use runner_tests::http::Response;
use runner_tests::scratch::Scratch;
use serde_json::Value;

/// How long anything may take on a busy machine.
const LONG: Duration = Duration::from_secs(60);

/// A version of the module in `tests/fixtures/modules`.
struct Version<'a> {
    mark: &'a str,
    version: &'a str,
    /// The plugin's own; empty for that of the module.
    name: &'a str,
    /// What the module calls itself.
    instance: &'a str,
    /// Seconds until it answers `welcome`.
    start: f64,
}

impl Default for Version<'_> {
    fn default() -> Self {
        Self {
            mark: "first",
            version: "1.0.0",
            name: "managed",
            instance: "",
            start: 0.0,
        }
    }
}

impl Version<'_> {
    /// Writes it in one step, as those who replace files should.
    fn write(&self, folder: &Path, file: &str) -> PathBuf {
        let text = fs::read_to_string(runner_tests::repository("tests/fixtures/modules/managed"));
        let mut text = text.expect("the fixture can be read");
        for (key, value) in [
            ("@MARK@", self.mark),
            ("@VERSION@", self.version),
            ("@NAME@", self.name),
            ("@INSTANCE@", self.instance),
            ("@START@", &self.start.to_string()),
        ] {
            text = text.replace(key, value);
        }
        replace(folder, file, &text)
    }
}

/// Puts an executable file into the place of another one.
fn replace(folder: &Path, file: &str, text: &str) -> PathBuf {
    let (draft, path) = (folder.join(format!(".{file}.new")), folder.join(file));
    fs::write(&draft, text).expect("a file is written");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("it is executable");
    fs::rename(&draft, &path).expect("it takes its place");
    path
}

/// A runner with a plugin folder of its own.
fn runner(folder: &Scratch) -> Runner {
    Runner::builder().plugins([folder.path()]).start()
}

fn load(runner: &Runner, body: &Value) -> Value {
    runner
        .ask("POST", "/modules/", Some(body))
        .expect(201)
        .json()
}

fn message(response: Response, status: u16) -> String {
    let body = response.expect(status).json();
    body["message"].as_str().unwrap_or_default().to_owned()
}
