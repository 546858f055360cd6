//! Where kernelspecs of Jupyter are, where their programs, and what these need.

use std::path::{Path, PathBuf};

/// As Jupyter has it.
pub(super) fn is_name(text: &str) -> bool {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !text.is_empty() && text.chars().all(is_part)
}

/// Where Jupyter looks, in its order.
pub(super) fn data_folders(python: &str) -> Vec<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let mut folders = Vec::new();
    if let Some(path) = variable("JUPYTER_PATH") {
        folders.extend(std::env::split_paths(&path));
    }
    let own = variable("JUPYTER_DATA_DIR").map(PathBuf::from);
    let shared = || variable("XDG_DATA_HOME").map(|path| PathBuf::from(path).join("jupyter"));
    let home = || variable("HOME").map(|home| PathBuf::from(home).join(".local/share/jupyter"));
    folders.extend(own.or_else(shared).or_else(home));
    match runner_host::interpreter_folders(python) {
        Ok(found) => folders.extend(found.iter().map(|folder| folder.join("share/jupyter"))),
        Err(error) => tracing::warn!("kernelspecs of {python} are not found: {error}"),
    }
    folders.extend(["/usr/local/share/jupyter", "/usr/share/jupyter"].map(PathBuf::from));
    folders
}

/// The program of a command: a path, an interpreter without one, or a name on the search path.
pub(super) fn program(name: &str, python: &str) -> Result<PathBuf, String> {
    let is_plain = !name.contains('/');
    let is_version = |rest: &str| rest.chars().all(|c| c.is_ascii_digit() || c == '.');
    let name = match name.strip_prefix("python") {
        Some(rest) if is_version(rest) => python,
        _ => name,
    };
    let found = match name.contains('/') {
        true => Some(PathBuf::from(name)).filter(|path| path.is_file()),
        false => {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let mut places = std::env::split_paths(&path).map(|folder| folder.join(name));
            places.find(|path| path.is_file())
        }
    };
    // The folder as it is; the program itself may be a link that says which environment is meant.
    let real = |path: PathBuf| {
        let folder = std::fs::canonicalize(path.parent()?).ok()?;
        Some(folder.join(path.file_name()?))
    };
    found.and_then(real).ok_or_else(|| {
        let place = match is_plain {
            true => " on the search path",
            false => "",
        };
        format!("there is no program {name}{place}")
    })
}

/// What a program needs to read beside what the system has for all: itself, and the environment that it lies in.
pub(super) fn needed(program: &Path) -> Vec<PathBuf> {
    let mut needed = vec![program.to_owned()];
    needed.extend(std::fs::canonicalize(program));
    let is_python = |path: &Path| {
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("python"))
    };
    let mut interpreter = is_python(program).then(|| program.to_owned());
    if let Some(prefix) = program.parent().and_then(Path::parent) {
        let is_environment = ["pyvenv.cfg", "conda-meta"]
            .iter()
            .any(|name| prefix.join(name).exists());
        if is_environment {
            needed.push(prefix.to_owned());
            interpreter = interpreter.or_else(|| Some(prefix.join("bin/python")));
        }
    }
    if let Some(interpreter) = interpreter.filter(|path| path.is_file())
        && let Ok(folders) = runner_host::interpreter_folders(&interpreter.to_string_lossy())
    {
        needed.extend(folders);
    }
    needed
}
