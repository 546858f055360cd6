use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, look_at_text};
use crate::HostError;

/// Python files and packages, loaded by the host in `sdk/python`.
#[derive(Debug)]
pub(super) struct Python;

impl Loader for Python {
    fn name(&self) -> &str {
        "python"
    }

    fn knows_magic(&self, _: &Probe) -> bool {
        false
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        probe.extension == "py"
    }

    fn look(&self, entry: &Path) -> Look {
        match entry.is_dir() {
            true => look_at_text("Python package", &entry.join("__init__.py")),
            false => look_at_text("Python source", entry),
        }
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        let runtime = runtime(&environment.python)?;
        let sdk = environment.sdk.join("python");
        let mut readable = runtime.folders.clone();
        readable.push(sdk.clone());
        Ok(Program {
            argv: vec![
                runtime.executable.clone(),
                "-m".to_owned(),
                "runner.host".to_owned(),
                argument(place.entry)?,
            ],
            environment: vec![
                ("PYTHONPATH".to_owned(), argument(&sdk)?),
                ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
            ],
            readable,
        })
    }
}

/// An interpreter as it is, behind shims and links.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Runtime {
    /// The interpreter.
    pub(super) executable: String,
    /// Where it keeps its libraries.
    pub(super) folders: Vec<PathBuf>,
}

/// Asks the interpreter where it lives; once for each.
pub(super) fn runtime(python: &str) -> Result<Arc<Runtime>, HostError> {
    static KNOWN: Mutex<Option<HashMap<String, Arc<Runtime>>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    if let Some(runtime) = known.get(python) {
        return Ok(Arc::clone(runtime));
    }
    let runtime = Arc::new(ask(python)?);
    known.insert(python.to_owned(), Arc::clone(&runtime));
    Ok(runtime)
}

fn ask(python: &str) -> Result<Runtime, HostError> {
    const QUESTION: &str = "import json, os, sys\n\
        assert sys.version_info >= (3, 9), 'Python %d.%d is too old' % sys.version_info[:2]\n\
        real = os.path.realpath(sys.executable)\n\
        print(json.dumps([sys.executable, sys.prefix, sys.base_prefix, os.path.dirname(real)] + sys.path))";
    let problem = |what: String| {
        HostError::Module(format!(
            "Python plugins need Python 3.9 or newer, and {python:?} is not usable: {what} \
             (the setting PYTHON names another one)"
        ))
    };
    let output = Command::new(python)
        .args(["-c", QUESTION])
        .stdin(std::process::Stdio::null())
        .output()
        .map_err(|error| problem(error.to_string()))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(problem(
            text.lines().last().unwrap_or("it failed").to_owned(),
        ));
    }
    let answer: Vec<String> =
        serde_json::from_slice(&output.stdout).map_err(|error| problem(error.to_string()))?;
    let mut answer = answer.into_iter();
    let executable = answer.next().unwrap_or_default();
    let mut folders: Vec<PathBuf> = answer
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.exists())
        .collect();
    folders.sort();
    folders.dedup();
    Ok(Runtime {
        executable,
        folders,
    })
}
