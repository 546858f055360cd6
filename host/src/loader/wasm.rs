use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, guest_arguments};
use crate::HostError;
use crate::once_each::OnceEach;

/// WebAssembly modules with WASI, hosted by `runner wasm-host`.
///
/// Their machine code is made once, by `runner wasm-compile`, and kept beside the snapshot. Loading machine code
/// means to trust it, so only the runner's own processes write there: hosts may read it, and nothing else.
#[derive(Debug)]
pub(super) struct Wasm;

/// How such a file begins.
const MAGIC: &[u8] = b"\0asm";
/// Version 1, of a core module. Components have another one.
const VERSION: [u8; 4] = [1, 0, 0, 0];
/// The largest file that is taken, in bytes.
const MAX_SIZE: u64 = 256 << 20;
/// How long making the machine code may take.
const COMPILE_LIMIT: Duration = Duration::from_secs(120);
/// The folder for machine code, beside the snapshot. No module is called so: names with a dot are ignored.
const COMPILED: &str = ".compiled";
/// The function that a command exports.
const START: &str = "_start";
/// The only module that may be imported from.
const WASI: &str = "wasi_snapshot_preview1";

impl Loader for Wasm {
    fn name(&self) -> &str {
        "wasm"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.magic.starts_with(MAGIC)
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        probe.extension == "wasm"
    }

    fn look(&self, entry: &Path) -> Look {
        const WHAT: &str = "WebAssembly module";
        let size = entry.metadata().map_or(0, |metadata| metadata.len());
        if size > MAX_SIZE {
            let problem = format!("it has {size} bytes; the limit is {MAX_SIZE}");
            return Look::broken(WHAT, problem);
        }
        match std::fs::read(entry) {
            Ok(bytes) => look_at(&bytes).unwrap_or_else(|problem| Look::broken(WHAT, problem)),
            Err(error) => Look::broken(WHAT, format!("it cannot be read: {error}")),
        }
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        let compiled = compiled(place, environment)?;
        let mut argv = vec![argument(&environment.runner)?, "wasm-host".to_owned()];
        argv.extend(guest_arguments(place.guest));
        argv.push(argument(&compiled)?);
        Ok(Program {
            argv,
            environment: Vec::new(),
            readable: vec![environment.runner.clone(), compiled],
        })
    }
}

/// The machine code of a module; made if it is not there. Asked for once in the life of the runner.
fn compiled(place: &Place<'_>, environment: &LoaderEnvironment) -> Result<PathBuf, HostError> {
    static KNOWN: OnceEach<PathBuf, PathBuf> = OnceEach::new();
    let folder = place.snapshot.parent().unwrap_or(place.snapshot);
    let compile = || compile(place.entry, &folder.join(COMPILED), environment);
    KNOWN.get(&place.entry.to_owned(), |path| path.is_file(), compile)
}

fn compile(
    entry: &Path,
    folder: &Path,
    environment: &LoaderEnvironment,
) -> Result<PathBuf, HostError> {
    let failed =
        |why: &str| HostError::Module(format!("the WebAssembly module cannot be compiled: {why}"));
    let mut child = Command::new(&environment.runner)
        .arg("wasm-compile")
        .args([entry, folder])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error.to_string()))?;
    let end = Instant::now() + COMPILE_LIMIT;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(2)),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(failed(&format!("it takes more than {COMPILE_LIMIT:?}")));
            }
            Err(error) => return Err(failed(&error.to_string())),
        }
    };
    // Both say one line at most, which fits into the pipes.
    let mut said = String::new();
    let read = match (status.success(), &mut child.stdout, &mut child.stderr) {
        (true, Some(stdout), _) => stdout.take(64 * 1024).read_to_string(&mut said),
        (false, _, Some(stderr)) => stderr.take(64 * 1024).read_to_string(&mut said),
        _ => Ok(0),
    };
    let said = said.trim();
    match (read, status.success()) {
        (Ok(_), true) if !said.is_empty() => Ok(PathBuf::from(said)),
        _ if said.is_empty() => Err(failed(&status.to_string())),
        _ => Err(failed(said.trim_start_matches("runner: "))),
    }
}

/// Walks through the sections of a module; the error says what is wrong with it.
fn look_at(bytes: &[u8]) -> Result<Look, String> {
    let size = bytes.len();
    let truncated =
        || format!("it ends in the middle, after {size} bytes: was it copied to its end?");
    if !bytes.starts_with(MAGIC) {
        return Err("it is no WebAssembly: it does not begin with \\0asm".to_owned());
    }
    let version = bytes.get(4..8).ok_or_else(truncated)?;
    if version != VERSION {
        return Err(match version {
            [13 | 10, 0, 1, 0] => {
                "it is a component, and core modules are expected: build it for wasm32-wasip1"
                    .to_owned()
            }
            other => format!("it has version {other:?} of the format; 1 is known"),
        });
    }
    let mut rest = Reader(&bytes[8..]);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let (mut has_functions, mut has_code) = (false, false);
    while !rest.0.is_empty() {
        let id = rest.byte().ok_or_else(truncated)?;
        let length = rest.number().ok_or_else(truncated)?;
        let mut section = Reader(rest.take(length).ok_or_else(truncated)?);
        let broken = || format!("its section {id} is damaged");
        match id {
            2 => imports = section.imports().ok_or_else(broken)?,
            3 => has_functions = true,
            10 => has_code = true,
            7 => exports = section.exports().ok_or_else(broken)?,
            _ => {}
        }
    }
    if has_functions && !has_code {
        return Err(truncated());
    }
    let mut look = Look::new("WebAssembly module");
    look.architecture = Some("wasm32".to_owned());
    let is_needed = |name: &String| [START, "memory"].contains(&name.as_str());
    look.symbols = exports.into_iter().filter(is_needed).collect();
    if let Some((module, name)) = imports.iter().find(|(module, _)| module != WASI) {
        look.problem = Some(format!(
            "it imports {module}.{name}; only {WASI} is there: build it for wasm32-wasip1"
        ));
    } else if look.symbols.len() < 2 {
        look.problem = Some(format!(
            "it does not export {START} and a memory: build it as a command, with a main function"
        ));
    } else {
        look.what.push_str(" with WASI");
    }
    Ok(look)
}

/// Reads the binary format. `None`: there is not enough, or it is not allowed.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An unsigned number of at most 32 bits, in LEB128.
    fn number(&mut self) -> Option<usize> {
        let mut value = 0_u64;
        for shift in (0..35).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(u32::try_from(value).ok()?).ok();
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn name(&mut self) -> Option<String> {
        let length = self.number()?;
        String::from_utf8(self.take(length)?.to_vec()).ok()
    }

    fn limits(&mut self) -> Option<()> {
        let flags = self.byte()?;
        self.wide()?;
        if flags & 1 != 0 {
            self.wide()?;
        }
        Some(())
    }

    /// A number of any width, passed over.
    fn wide(&mut self) -> Option<()> {
        while self.byte()? & 0x80 != 0 {}
        Some(())
    }

    fn imports(&mut self) -> Option<Vec<(String, String)>> {
        let mut imports = Vec::new();
        for _ in 0..self.number()? {
            imports.push((self.name()?, self.name()?));
            match self.byte()? {
                0 => self.wide()?,
                1 => {
                    self.byte()?;
                    self.limits()?;
                }
                2 => self.limits()?,
                3 => {
                    self.byte()?;
                    self.byte()?;
                }
                4 => {
                    self.byte()?;
                    self.wide()?;
                }
                _ => return None,
            }
        }
        Some(imports)
    }

    fn exports(&mut self) -> Option<Vec<String>> {
        let mut exports = Vec::new();
        for _ in 0..self.number()? {
            exports.push(self.name()?);
            self.byte()?;
            self.wide()?;
        }
        Some(exports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// `_start` that does nothing, and a memory of one page.
    const SMALL: &[u8] = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x05\x03\x01\0\x01\
        \x07\x13\x02\x06_start\0\0\x06memory\x02\0\x0a\x04\x01\x02\0\x0b";

    #[test]
    fn a_command_is_told_apart_from_what_cannot_be_run() {
        let look = look_at(SMALL).unwrap();
        assert_eq!(look.problem, None);
        assert_eq!(look.symbols, ["_start", "memory"]);
        let problem = |bytes: &[u8]| match look_at(bytes) {
            Ok(look) => look.problem.unwrap_or_default(),
            Err(problem) => problem,
        };
        for size in 4..SMALL.len() {
            let told = problem(&SMALL[..size]);
            assert!(
                told.contains(&format!("after {size} bytes")) || told.contains("does not export"),
                "{size}: {told}"
            );
        }
        assert!(problem(b"hello").contains("does not begin with"));
        assert!(problem(b"\0asm\x0d\0\x01\0").contains("a component"));
        assert!(problem(b"\0asm\x02\0\0\0").contains("version [2, 0, 0, 0]"));
        assert!(problem(b"\0asm\x01\0\0\0").contains("does not export _start"));
        let foreign = b"\0asm\x01\0\0\0\x02\x09\x01\x03env\x01f\0\0";
        assert!(
            problem(foreign).contains("imports env.f"),
            "{}",
            problem(foreign)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = look_at(&[b"\0asm\x01\0\0\0", &bytes[..]].concat());
        }
    }
}
