use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, look_at_text};
use crate::HostError;
use crate::once_each::OnceEach;

/// What the interpreter is told to do. Not `-m`, which would load the module a second time.
const HOST: &str = "import sys; from runner.host import main; sys.exit(main(sys.argv[1:]))";

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
        let mut program = interpreter(&environment.python, &environment.sdk)?;
        if let Some(folder) = place.environment {
            let bin = folder.join("bin");
            program.argv = vec![argument(&bin.join("python"))?];
            program.readable.push(folder.to_owned());
            // Programs that packages bring along are found as in an activated environment.
            let path = std::env::var("PATH").unwrap_or_default();
            program.environment.extend([
                ("PATH".to_owned(), format!("{}:{path}", argument(&bin)?)),
                ("VIRTUAL_ENV".to_owned(), argument(folder)?),
            ]);
        }
        let arguments = ["-c".to_owned(), HOST.to_owned(), argument(place.entry)?];
        program.argv.extend(arguments);
        Ok(program)
    }
}

/// An interpreter that finds the SDK among these, and is told nothing to run yet.
pub(crate) fn interpreter(python: &str, sdk: &Path) -> Result<Program, HostError> {
    let runtime = runtime(python)?;
    let sdk = sdk.join("python");
    compile(&runtime, &sdk);
    let environment = vec![
        ("PYTHONPATH".to_owned(), argument(&sdk)?),
        ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
    ];
    let mut readable = runtime.folders.clone();
    readable.push(sdk);
    Ok(Program {
        argv: vec![runtime.executable.clone()],
        environment,
        readable,
    })
}

/// Where an interpreter keeps its libraries. Starts it, once for each, and waits for it.
///
/// # Errors
/// It is not usable.
pub fn interpreter_folders(python: &str) -> Result<Vec<PathBuf>, HostError> {
    Ok(runtime(python)?.folders.clone())
}

/// An interpreter as it is, behind shims and links.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// The interpreter.
    pub(crate) executable: String,
    /// Such as `3.11.7`.
    pub(crate) version: String,
    /// What stands in the names of files with its bytecode, such as `cpython-311`; empty if it keeps none.
    cache_tag: String,
    /// Where it keeps its libraries.
    pub(crate) folders: Vec<PathBuf>,
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
        print(json.dumps(['%d.%d.%d' % sys.version_info[:3], sys.implementation.cache_tag or '', sys.executable, sys.prefix, sys.base_prefix, os.path.dirname(real)] + sys.path))";
    let problem = |what: String| {
        HostError::Module(format!(
            "Python plugins need Python 3.9 or newer, and {python:?} is not usable: {what} \
             (the setting PYTHON names another one)"
        ))
    };
    let output = Command::new(python)
        .args(["-c", QUESTION])
        .stdin(Stdio::null())
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
    let cache_tag = answer.next().unwrap_or_default();
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
        cache_tag,
        folders,
    })
}

/// Compiles the SDK to the interpreter's bytecode, unless it lies there already. Hosts write nothing beside it, so
/// each of them would compile it again, which takes longer than all else in its start.
pub(crate) fn compile(runtime: &Runtime, sdk: &Path) {
    static DONE: OnceEach<(String, PathBuf), ()> = OnceEach::new();
    let folder = sdk.join("runner");
    // They are compiled in the order of their names.
    let last = folder.join(format!("__pycache__/zygote.{}.pyc", runtime.cache_tag));
    let done = DONE.get(
        &(runtime.executable.clone(), sdk.to_owned()),
        |()| true,
        || {
            if runtime.cache_tag.is_empty() || last.exists() {
                return Ok(());
            }
            let output = Command::new(&runtime.executable)
                .args(["-I", "-m", "compileall", "-q"])
                .arg(&folder)
                .stdin(Stdio::null())
                .output()
                .map_err(|error| error.to_string())?;
            if output.status.success() {
                return Ok(());
            }
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        },
    );
    if let Err(error) = done {
        tracing::warn!(
            folder = %folder.display(),
            "the SDK cannot be compiled, so hosts in Python start slower: {error}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sdk_is_compiled_once_for_an_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let sdk = crate::sdk::unpack(folder.path()).unwrap().join("python");
        let runtime = runtime("python3").unwrap();
        let compiled = || {
            let entries = std::fs::read_dir(sdk.join("runner/__pycache__")).unwrap();
            entries.count()
        };
        compile(&runtime, &sdk);
        let sources = std::fs::read_dir(sdk.join("runner")).unwrap();
        let sources = sources.filter(|entry| {
            let path = entry.as_ref().unwrap().path();
            path.extension().is_some_and(|extension| extension == "py")
        });
        assert_eq!(compiled(), sources.count());
        std::fs::remove_dir_all(sdk.join("runner/__pycache__")).unwrap();
        std::fs::create_dir(sdk.join("runner/__pycache__")).unwrap();
        compile(&runtime, &sdk);
        assert_eq!(compiled(), 0, "it was compiled a second time");
    }
}
