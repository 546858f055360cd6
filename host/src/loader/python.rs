use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, look_at_text};
use crate::HostError;
use crate::once_each::OnceEach;

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

    fn takes_environment(&self) -> bool {
        true
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
        let mut executable = runtime.executable.clone();
        let mut variables = vec![
            ("PYTHONPATH".to_owned(), argument(&sdk)?),
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ];
        if let Some(folder) = place.environment {
            let bin = folder.join("bin");
            executable = argument(&bin.join("python"))?;
            readable.push(folder.to_owned());
            // Programs that packages bring along are found as in an activated environment.
            let path = std::env::var("PATH").unwrap_or_default();
            variables.push(("PATH".to_owned(), format!("{}:{path}", argument(&bin)?)));
            variables.push(("VIRTUAL_ENV".to_owned(), argument(folder)?));
        }
        Ok(Program {
            argv: vec![
                executable,
                "-m".to_owned(),
                "runner.host".to_owned(),
                argument(place.entry)?,
            ],
            environment: variables,
            readable,
        })
    }
}

/// An interpreter as it is, behind shims and links.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// The interpreter.
    pub(crate) executable: String,
    /// Such as `3.11.7`.
    pub(crate) version: String,
    /// Where it keeps its libraries.
    pub(super) folders: Vec<PathBuf>,
}

/// Asks the interpreter where it lives; once for each. Starts a process, and waits for it.
pub(crate) fn runtime(python: &str) -> Result<Arc<Runtime>, HostError> {
    static KNOWN: OnceEach<String, Arc<Runtime>> = OnceEach::new();
    KNOWN.get(&python.to_owned(), |_| true, || ask(python).map(Arc::new))
}

fn ask(python: &str) -> Result<Runtime, HostError> {
    const QUESTION: &str = "import json, os, sys\n\
        assert sys.version_info >= (3, 9), 'Python %d.%d is too old' % sys.version_info[:2]\n\
        real = os.path.realpath(sys.executable)\n\
        print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.executable, sys.prefix, sys.base_prefix, os.path.dirname(real)] + sys.path))";
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
    let version = answer.next().unwrap_or_default();
    let executable = answer.next().unwrap_or_default();
    let mut folders: Vec<PathBuf> = answer
        .map(PathBuf::from)
        .filter(|path| path.is_absolute() && path.exists())
        .collect();
    folders.sort();
    folders.dedup();
    Ok(Runtime {
        executable,
        version,
        folders,
    })
}
