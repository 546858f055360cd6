//! Modules that are built by the tests, where what builds them is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Desk, repository};

fn compile(program: &str, arguments: &[&str], source: &Path, target: &Path) -> Result<(), String> {
    let done = Command::new(program)
        .args(arguments)
        .arg("-I")
        .arg(repository().join("sdk/c"))
        .arg("-o")
        .arg(target)
        .arg(source)
        .current_dir(target.parent().unwrap())
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&done.stderr).into_owned()),
    }
}

/// A shared object of a C source.
pub(crate) fn shared_object(desk: &Desk, source: &Path, name: &str) -> PathBuf {
    let target = desk.path(name);
    let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror"];
    compile("cc", &arguments, source, &target).unwrap();
    target
}

/// The same, where another language than C++ or C99 is asked for.
pub(crate) fn shared_object_as(
    desk: &Desk,
    compiler: &str,
    arguments: &[&str],
    source: &Path,
    name: &str,
) -> PathBuf {
    let target = desk.path(name);
    let arguments = [&["-shared", "-fPIC"], arguments].concat();
    compile(compiler, &arguments, source, &target).unwrap();
    target
}

/// A WebAssembly module of a C source; `None` where there is no clang for it, which is said.
pub(crate) fn wasm(desk: &Desk, source: &Path, name: &str) -> Option<PathBuf> {
    let target = desk.path(name);
    let arguments = ["--target=wasm32-wasi", "-O2", "-s", "-Wall", "-Werror"];
    match compile("clang", &arguments, source, &target) {
        Ok(()) => Some(target),
        Err(error) => {
            println!("not built, what stands in the repository is used: {error}");
            None
        }
    }
}

/// Whether a compiler is here; said if not.
pub(crate) fn has(program: &str) -> bool {
    let is_here = Command::new(program)
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success());
    if !is_here {
        println!("{program} is not installed: nothing is tested with it");
    }
    is_here
}
