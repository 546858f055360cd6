use std::path::Path;

use super::{Loader, LoaderEnvironment, Look, Place, Probe, Program, argument, elf};
use crate::HostError;

/// Executables and `#!` scripts that speak the plugin protocol themselves.
#[derive(Debug)]
pub(super) struct Process;

impl Loader for Process {
    fn name(&self) -> &str {
        "process"
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        probe.is_executable
            && (probe.magic.starts_with(b"\x7fELF") || probe.magic.starts_with(b"#!"))
    }

    fn knows_extension(&self, _: &Probe) -> bool {
        false
    }

    fn look(&self, entry: &Path) -> Look {
        let probe = match Probe::new(entry) {
            Ok(probe) => probe,
            Err(error) => return Look::broken("executable", error.to_string()),
        };
        let mut look = match probe.magic.strip_prefix(b"#!") {
            Some(line) => look_at_script(line),
            None if probe.magic.starts_with(b"\x7fELF") => elf::look(entry, &[]),
            None => Look::broken("file", "it is neither an ELF file nor a script with #!"),
        };
        if !probe.is_executable && look.problem.is_none() {
            look.problem = Some("it is not executable: chmod +x makes it a plugin".to_owned());
        }
        look
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        // A script may well ask for Python, which on some machines lies in a home folder.
        let readable =
            super::python::runtime(&environment.python).map(|runtime| runtime.folders.clone());
        Ok(Program {
            argv: vec![argument(place.entry)?],
            environment: Vec::new(),
            readable: readable.unwrap_or_default(),
        })
    }
}

/// `line` is what follows `#!`; only its beginning is there if it is long.
fn look_at_script(line: &[u8]) -> Look {
    let end = line.iter().position(|byte| *byte == b'\n');
    let text = String::from_utf8_lossy(&line[..end.unwrap_or(line.len())]);
    let interpreter = text.split_whitespace().next().unwrap_or("");
    let what = format!("script for {}", text.trim());
    // Of a path that is cut off nothing is known.
    let is_whole = end.is_some() || text.trim_start().contains(' ');
    if interpreter.is_empty() {
        return Look::broken("script", "#! names no interpreter");
    }
    if text.ends_with('\r') {
        return Look::broken(
            what,
            "its first line ends with a carriage return, which becomes part of the interpreter's name: save \
             it with Unix line ends",
        );
    }
    match is_whole && !Path::new(interpreter).exists() {
        true => Look::broken(what, format!("its interpreter {interpreter} is not here")),
        false => Look::new(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_first_line_is_seen() {
        let problem = |line: &[u8]| look_at_script(line).problem.unwrap_or_default();
        assert_eq!(problem(b"/bin/sh\nexit"), "");
        assert_eq!(problem(b" /usr/bin/env python3\n"), "");
        assert!(problem(b"/bin/sh\r\n").contains("carriage return"));
        assert!(problem(b"/no/such/thing -x\n").contains("/no/such/thing is not here"));
        assert!(problem(b"\n").contains("names no interpreter"));
        assert_eq!(problem(b"/a/path/that/goes/on/and/o"), "");
    }
}
