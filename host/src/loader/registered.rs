use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Loader, LoaderEnvironment, Look, MAGIC, Place, Probe, Program, argument, built_in};
use crate::HostError;

/// What stands for the module's path in a command.
const MODULE: &str = "{module}";

/// A loader of the configuration, as the kernel's binfmt_misc has them: an extension or a magic number, and
/// the command that hosts such files. The command speaks the plugin protocol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registered {
    /// The word in manifests and listings.
    #[serde(skip)]
    name: String,
    /// Extensions of its files, in lower case and without a dot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<String>,
    /// What its files begin with; `\xNN` is a byte.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    magic: Option<String>,
    /// Program and arguments; `{module}` is the path of the module, which comes last where it is left out.
    command: Vec<String>,
    /// What the program reads beside the module and the system's files. Relative paths begin where the runner was
    /// started; so do arguments of the command that stand here too.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    readable: Vec<PathBuf>,
}

impl Registered {
    /// Reads a JSON object of loaders by their names.
    ///
    /// # Errors
    /// Which loader is wrong, and why.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let loaders: BTreeMap<String, serde_json::Value> =
            serde_json::from_str(text).map_err(|error| {
                format!("expected a JSON object of loaders by their names: {error}")
            })?;
        let read = |(name, value): (String, serde_json::Value)| {
            let wrong = |problem: String| format!("the loader {name:?}: {problem}");
            let mut loader: Self =
                serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
            loader.name.clone_from(&name);
            for extension in &mut loader.extensions {
                *extension = extension.trim_start_matches('.').to_ascii_lowercase();
            }
            loader.check().map_err(wrong)?;
            Ok(loader)
        };
        loaders.into_iter().map(read).collect()
    }

    /// What it takes and what it starts, for people.
    pub fn shown(&self) -> String {
        let mut kinds: Vec<String> = self.extensions.iter().map(|e| format!(".{e}")).collect();
        kinds.extend(self.magic.iter().map(|magic| format!("magic {magic}")));
        format!(
            "{}: {} by {}",
            self.name,
            kinds.join(", "),
            self.command.join(" ")
        )
    }

    /// The program of its command, as it is found now.
    ///
    /// # Errors
    /// There is none.
    pub fn executable(&self) -> Result<PathBuf, HostError> {
        let name = self.command.first().map_or("", String::as_str);
        let is_program = |path: &Path| {
            path.metadata()
                .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
        };
        let found = match name.contains('/') {
            true => std::path::absolute(name)
                .ok()
                .filter(|path| is_program(path)),
            false => std::env::var_os("PATH")
                .iter()
                .flat_map(std::env::split_paths)
                .map(|folder| folder.join(name))
                .find(|path| is_program(path)),
        };
        found.ok_or_else(|| {
            HostError::Module(format!(
                "the loader {:?} needs the program {name:?}, which is not here (the setting LOADERS names it)",
                self.name
            ))
        })
    }

    fn check(&self) -> Result<(), String> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if self.name.is_empty() || self.name.len() > 32 || !self.name.chars().all(is_plain) {
            return Err("its name must be 1 to 32 small letters, digits and dashes".to_owned());
        }
        if built_in().iter().any(|loader| loader.name() == self.name) {
            return Err("there is a built-in loader of this name".to_owned());
        }
        if self.extensions.is_empty() && self.magic.is_none() {
            return Err("it needs `extensions` or a `magic` number".to_owned());
        }
        let is_extension = |e: &String| !e.is_empty() && !e.contains(['.', '/']);
        if !self.extensions.iter().all(is_extension) {
            return Err("an extension is what stands after the last dot of a name".to_owned());
        }
        let length = self.magic.as_deref().map(bytes).transpose()?;
        if length.is_some_and(|magic| magic.is_empty() || magic.len() as u64 > MAGIC) {
            return Err(format!("`magic` must have 1 to {MAGIC} bytes"));
        }
        match self.command.first() {
            Some(program) if !program.is_empty() && !program.contains(MODULE) => Ok(()),
            _ => Err("`command` must begin with a program".to_owned()),
        }
    }
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The bytes of a magic number; `\xNN` is one, `\\` a backslash.
fn bytes(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        let hexadecimal = escape.strip_prefix('x').and_then(|digits| digits.get(..2));
        let (byte, length) = match hexadecimal.map(|digits| u8::from_str_radix(digits, 16)) {
            Some(Ok(byte)) => (byte, 3),
            None if escape.starts_with('\\') => (b'\\', 1),
            _ => return Err(format!("`magic` {text:?}: after \\ comes xNN or \\")),
        };
        bytes.push(byte);
        rest = &escape[length..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

impl Loader for Registered {
    fn name(&self) -> &str {
        &self.name
    }

    fn knows_magic(&self, probe: &Probe) -> bool {
        let magic = self.magic.as_deref().and_then(|text| bytes(text).ok());
        magic.is_some_and(|magic| probe.magic.starts_with(&magic))
    }

    fn knows_extension(&self, probe: &Probe) -> bool {
        self.extensions.contains(&probe.extension)
    }

    fn look(&self, _: &Path) -> Look {
        let what = format!("file for `{}`", self.command.join(" "));
        match self.executable() {
            Ok(_) => Look::new(what),
            Err(error) => Look::broken(what, error.to_string()),
        }
    }

    fn program(
        &self,
        place: &Place<'_>,
        environment: &LoaderEnvironment,
    ) -> Result<Program, HostError> {
        let mut executable = self.executable()?;
        let mut readable: Vec<PathBuf> = self.readable.iter().map(|path| absolute(path)).collect();
        // The interpreter of Python plugins is often a shim for one that lies in a home folder.
        if self.command.first() == Some(&environment.python) {
            let runtime = super::python::runtime(&environment.python)?;
            executable = PathBuf::from(&runtime.executable);
            readable.extend_from_slice(&runtime.folders);
        }
        let module = argument(place.entry)?;
        let mut argv = vec![argument(&executable)?];
        for part in self.command.iter().skip(1) {
            argv.push(
                match self.readable.iter().any(|path| path == Path::new(part)) {
                    true => argument(&absolute(Path::new(part)))?,
                    false => part.replace(MODULE, &module),
                },
            );
        }
        if !self.command.iter().any(|part| part.contains(MODULE)) {
            argv.push(module);
        }
        readable.extend(executable.canonicalize());
        readable.push(executable);
        Ok(Program {
            argv,
            environment: Vec::new(),
            readable,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_loader_is_said() {
        for (text, problem) in [
            ("[]", "a JSON object of loaders"),
            (
                r#"{"Ju": {"extensions": ["jl"], "command": ["x"]}}"#,
                "small letters",
            ),
            (
                r#"{"lua": {"extensions": ["x"], "command": ["x"]}}"#,
                "built-in",
            ),
            (r#"{"a": {"command": ["x"]}}"#, "needs `extensions` or"),
            (
                r#"{"a": {"extensions": ["a.b"], "command": ["x"]}}"#,
                "last dot",
            ),
            (
                r#"{"a": {"extensions": ["b"], "command": []}}"#,
                "begin with a program",
            ),
            (
                r#"{"a": {"magic": "\\xZZ", "command": ["x"]}}"#,
                "after \\ comes",
            ),
            (
                r#"{"a": {"magic": "\\x1", "command": ["x"]}}"#,
                "after \\ comes",
            ),
            (r#"{"a": {"magic": "", "command": ["x"]}}"#, "1 to 64 bytes"),
            (
                r#"{"a": {"extension": "b", "command": ["x"]}}"#,
                "unknown field `extension`",
            ),
        ] {
            let error = Registered::parse(text).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
    }

    #[test]
    fn the_command_gets_the_module() {
        let text = r#"{"a": {"extensions": ["a"], "command": ["sh", "-c", "cat {module}", "x"]},
                       "b": {"magic": "b", "command": ["sh"]}}"#;
        let loaders = Registered::parse(text).unwrap();
        let environment = LoaderEnvironment {
            runner: PathBuf::new(),
            sdk: PathBuf::new(),
            python: String::new(),
        };
        let place = Place {
            entry: Path::new("/m/x.a"),
            snapshot: Path::new("/m"),
            guest: &Default::default(),
            environment: None,
        };
        let argv = |loader: &Registered| loader.program(&place, &environment).unwrap().argv;
        assert!(Path::new(&argv(&loaders[0])[0]).is_absolute());
        assert_eq!(argv(&loaders[0])[1..], ["-c", "cat /m/x.a", "x"]);
        assert_eq!(argv(&loaders[1])[1..], ["/m/x.a"]);
    }
}
