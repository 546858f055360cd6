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

/// An example of the SDK of Rust, as a shared object.
pub(crate) fn example_of_the_sdk(name: &str) -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_runner"));
    let target = program.ancestors().nth(2).unwrap();
    let done = Command::new(env!("CARGO"))
        .args(["build", "-p", "runner-sdk", "--example", name])
        .arg("--target-dir")
        .arg(target)
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    target.join(format!("debug/examples/lib{name}.so"))
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
