//! What a module needs beside the standard library, and who says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Component, Path};
use std::str::FromStr;

use pep440_rs::{Version, VersionSpecifiers};
use serde::Deserialize;

use super::{requirement, script};
use crate::HostError;
use crate::digest::text_digest;
use crate::discovery::Found;
use crate::manifest;

/// Requirements, one a line.
const REQUIREMENTS: &str = "requirements.txt";
/// Requirements as `project.dependencies`.
const PROJECT: &str = "pyproject.toml";
/// Bytes of the largest file that is read for requirements.
const MAX_FILE: u64 = 4 << 20;
/// Requirements of one module, with those of its folder.
const MAX_REQUIREMENTS: usize = 1_000;
/// How deep files of requirements may name each other.
const MAX_DEPTH: usize = 8;
/// Raised when environments are made in another way.
const LAYOUT: u32 = 1;

/// Requirements in their normal form, each with the places that ask for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Requirements {
    asked: BTreeMap<String, BTreeSet<String>>,
    /// Which versions may be taken of what is needed anyway.
    constraints: BTreeMap<String, BTreeSet<String>>,
    /// Versions of Python.
    python: Vec<(VersionSpecifiers, String)>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PyProject {
    project: Project,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
struct Project {
    dependencies: Vec<String>,
    requires_python: Option<String>,
}

/// What the lines of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Requirement,
    Constraint,
}

impl Requirements {
    /// Those of a module: of the plugin folder in which it lies, of its own folder if it is one, and of its source.
    /// Reads files, and starts nothing.
    ///
    /// # Errors
    /// The file and line of what is wrong. A module that no environment is made for has requirements.
    pub fn of(path: &Path, found: &Found) -> Result<Self, HostError> {
        let mut all = Self::default();
        if !found.loader.takes_environment() {
            return match found.manifest.requirements.is_empty() {
                true => Ok(all),
                false => Err(HostError::Module(format!(
                    "{} has requirements; they are for Python modules, and this is one for the loader {:?}",
                    path.join(manifest::FILE).display(),
                    found.loader.name()
                ))),
            };
        }
        if let Some(folder) = path.parent() {
            all.read_folder(folder)?;
        }
        if let Some(folder) = &found.folder {
            all.read_folder(folder)?;
            let manifest = folder.join(manifest::FILE).display().to_string();
            for text in &found.manifest.requirements {
                all.add(Kind::Requirement, text, &manifest)?;
            }
        }
        let source = match found.entry.is_dir() {
            true => found.entry.join("__init__.py"),
            false => found.entry.clone(),
        };
        all.read_script(&source)?;
        Ok(all)
    }

    /// Whether any interpreter alone will do.
    pub fn is_empty(&self) -> bool {
        self.asked.is_empty() && self.python.is_empty()
    }

    /// Whether packages are needed.
    pub fn has_packages(&self) -> bool {
        !self.asked.is_empty()
    }

    /// The requirements, sorted, each with the places that ask for it.
    pub fn asked(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.asked
            .iter()
            .map(|(text, by)| (text.as_str(), by.iter().map(String::as_str).collect()))
    }

    /// Adds those of another module.
    pub fn extend(&mut self, other: Self) {
        for (ours, theirs) in [
            (&mut self.asked, other.asked),
            (&mut self.constraints, other.constraints),
        ] {
            for (text, by) in theirs {
                ours.entry(text).or_default().extend(by);
            }
        }
        self.python.extend(other.python);
    }

    /// The lines of a file of requirements, and those of a file of constraints.
    pub(super) fn files(&self) -> (String, String) {
        let lines = |map: &BTreeMap<String, BTreeSet<String>>| {
            map.keys().map(|line| format!("{line}\n")).collect()
        };
        (lines(&self.asked), lines(&self.constraints))
    }

    /// What names an environment: the requirements, the interpreter, and how environments are made.
    pub(super) fn digest(&self, interpreter: &[&str]) -> String {
        let (asked, constraints) = self.files();
        let parts = serde_json::json!([LAYOUT, asked, constraints, interpreter]);
        text_digest(&parts.to_string())[..32].to_owned()
    }

    /// Whether an interpreter of this version will do.
    ///
    /// # Errors
    /// Who needs another one.
    pub(super) fn check_python(&self, version: &str) -> Result<(), HostError> {
        let Ok(here) = Version::from_str(version) else {
            return Ok(());
        };
        for (wanted, by) in &self.python {
            if !wanted.contains(&here) {
                return Err(HostError::Module(format!(
                    "{by} needs Python {wanted}, and the interpreter is {version} (the setting PYTHON names another)"
                )));
            }
        }
        Ok(())
    }

    /// In one line, for messages.
    pub fn shown(&self) -> String {
        let lines: Vec<&str> = self.asked.keys().map(String::as_str).collect();
        lines.join(", ")
    }

    fn read_folder(&mut self, folder: &Path) -> Result<(), HostError> {
        self.read_list(folder, Path::new(REQUIREMENTS), Kind::Requirement, 0)?;
        let path = folder.join(PROJECT);
        let Some(text) = read(&path)? else {
            return Ok(());
        };
        let at = path.display().to_string();
        let file: PyProject = toml::from_str(&text)
            .map_err(|error| HostError::Module(format!("{at}: {}", error.to_string().trim())))?;
        self.add_declared(
            &file.project.dependencies,
            file.project.requires_python,
            &at,
        )
    }

    fn read_script(&mut self, source: &Path) -> Result<(), HostError> {
        // Whatever else is wrong with the source, Python says it better.
        let Ok(Some(text)) = read(source) else {
            return Ok(());
        };
        let at = source.display().to_string();
        let script =
            script::read(&text).map_err(|problem| HostError::Module(format!("{at}: {problem}")))?;
        match script {
            Some(script) => self.add_declared(&script.dependencies, script.requires_python, &at),
            None => Ok(()),
        }
    }

    fn add_declared(
        &mut self,
        dependencies: &[String],
        python: Option<String>,
        at: &str,
    ) -> Result<(), HostError> {
        for text in dependencies {
            self.add(Kind::Requirement, text, at)?;
        }
        if let Some(python) = python {
            let wanted = VersionSpecifiers::from_str(&python).map_err(|_| {
                HostError::Module(format!(
                    "{at}: requires-python is {python:?}; expected such as \">=3.9\""
                ))
            })?;
            self.python.push((wanted, at.to_owned()));
        }
        Ok(())
    }

    fn add(&mut self, kind: Kind, text: &str, at: &str) -> Result<(), HostError> {
        let normal = requirement::normal(text)
            .map_err(|problem| HostError::Module(format!("{at}: {problem}")))?;
        self.insert(kind, normal, at)
    }

    fn insert(&mut self, kind: Kind, line: String, at: &str) -> Result<(), HostError> {
        let lines = match kind {
            Kind::Requirement => &mut self.asked,
            Kind::Constraint => &mut self.constraints,
        };
        lines.entry(line).or_default().insert(at.to_owned());
        match lines.len() > MAX_REQUIREMENTS {
            true => Err(HostError::Module(format!(
                "{at}: there are more than {MAX_REQUIREMENTS} requirements"
            ))),
            false => Ok(()),
        }
    }

    /// Reads a file of lines as pip has it, of which `-r` and `-c` are known; `name` is a path in the folder.
    fn read_list(
        &mut self,
        folder: &Path,
        name: &Path,
        kind: Kind,
        depth: usize,
    ) -> Result<(), HostError> {
        let path = folder.join(name);
        let Some(text) = read(&path)? else {
            return match depth {
                0 => Ok(()),
                _ => Err(HostError::Module(format!("there is no {}", path.display()))),
            };
        };
        for (number, line) in logical_lines(&text) {
            let at = format!("{}:{number}", path.display());
            let refused = |problem: String| HostError::Module(format!("{at}: {problem}"));
            if !line.starts_with('-') {
                let (text, hashes) = split_hashes(&line).map_err(refused)?;
                let normal = requirement::normal(text).map_err(refused)?;
                self.insert(kind, format!("{normal}{hashes}"), &at)?;
                continue;
            }
            let (option, value) = line
                .split_once([' ', '\t', '='])
                .unwrap_or((line.as_str(), ""));
            let kind = match option {
                "-r" | "--requirement" => kind,
                "-c" | "--constraint" => Kind::Constraint,
                _ => {
                    return Err(refused(format!(
                        "the option {option} is not for plugins. Where packages come from is said by the variables \
                         of uv (UV_INDEX_URL, …) or pip (PIP_INDEX_URL, …) with which the runner is started"
                    )));
                }
            };
            let value = Path::new(value.trim());
            let inside = name.parent().unwrap_or(Path::new("")).join(value);
            let is_plain = inside
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            if !is_plain || depth == MAX_DEPTH {
                return Err(refused(format!(
                    "{value:?} must be a file in {}, at most {MAX_DEPTH} deep",
                    folder.display()
                )));
            }
            self.read_list(folder, &inside, kind, depth + 1)?;
        }
        Ok(())
    }
}

/// The text of a file; `None` if there is none.
fn read(path: &Path) -> Result<Option<String>, HostError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(HostError::file("read", path)(error)),
    };
    let metadata = file.metadata().map_err(HostError::file("read", path))?;
    if !metadata.is_file() {
        return Err(HostError::Module(format!(
            "{} is not a regular file",
            path.display()
        )));
    }
    if metadata.len() > MAX_FILE {
        return Err(HostError::Module(format!(
            "{} has {} bytes; the limit is {MAX_FILE}",
            path.display(),
            metadata.len()
        )));
    }
    let mut text = String::new();
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(HostError::file("read", path))?;
    Ok(Some(text))
}

/// Lines without comments and what is empty; one that ends in a backslash goes on in the next. With the number of
/// the first.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut held: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
        let (begun, mut whole) = held.take().unwrap_or((number, String::new()));
        match line.trim_end().strip_suffix('\\') {
            Some(part) => {
                whole.push_str(part);
                held = Some((begun, whole));
            }
            None => {
                whole.push_str(line);
                lines.push((begun, whole));
            }
        }
    }
    lines.extend(held);
    let bare = lines
        .into_iter()
        .map(|(number, line)| (number, without_comment(&line).trim().to_owned()));
    bare.filter(|(_, line)| !line.is_empty()).collect()
}

/// A comment begins with the line, or after a space.
fn without_comment(line: &str) -> &str {
    let mut before = ' ';
    for (at, c) in line.char_indices() {
        if c == '#' && before.is_whitespace() {
            return &line[..at];
        }
        before = c;
    }
    line
}

/// A requirement, and the digests that its files must have, sorted.
fn split_hashes(line: &str) -> Result<(&str, String), String> {
    let Some((text, options)) = line.split_once(" --") else {
        return Ok((line, String::new()));
    };
    let options = format!("--{options}");
    let mut hashes = Vec::new();
    for option in options.split_whitespace() {
        if !option.starts_with("--hash=") {
            return Err(format!("after a requirement comes --hash=…, not {option}"));
        }
        hashes.push(option);
    }
    hashes.sort_unstable();
    Ok((text, format!(" {}", hashes.join(" "))))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::discovery::Discovery;
    use crate::loader::Loaders;

    fn of(path: &Path) -> Result<Requirements, String> {
        let loaders = Loaders::default();
        let discovery = Discovery {
            loaders: &loaders,
            beside: Path::new("/"),
            forced: None,
        };
        let found = discovery.look_at_one(path).found.unwrap();
        Requirements::of(path, &found).map_err(|error| error.to_string())
    }

    #[test]
    fn a_module_needs_what_its_folders_and_its_source_say() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let package = root.join("package");
        fs::create_dir(&package).unwrap();
        fs::write(root.join("requirements.txt"), "Shared >= 1 # for all\n").unwrap();
        fs::write(
            package.join("pyproject.toml"),
            "[project]\ndependencies = [\"b\"]",
        )
        .unwrap();
        fs::write(
            package.join("plugin.toml"),
            "requirements = [\"c==1\", \"b\"]",
        )
        .unwrap();
        let block = "# /// script\n# dependencies = [\"d\"]\n# ///\n";
        fs::write(package.join("__init__.py"), block).unwrap();
        fs::write(root.join("one.py"), block).unwrap();
        fs::write(root.join("two.py"), "").unwrap();
        assert_eq!(of(&package).unwrap().shown(), "b, c==1, d, shared>=1");
        assert_eq!(of(&root.join("one.py")).unwrap().shown(), "d, shared>=1");
        assert_eq!(of(&root.join("two.py")).unwrap().shown(), "shared>=1");
        let all = of(&package).unwrap();
        let (_, by) = all.asked().next().unwrap();
        assert_eq!(by.len(), 2, "{by:?}");
        let (_, by) = all.asked().last().unwrap();
        assert!(by[0].ends_with("requirements.txt:1"), "{by:?}");
    }

    #[test]
    fn files_of_pip_are_understood_as_far_as_they_say_what_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir(root.join("more")).unwrap();
        let text = "# what we need\n\na==1 \\\n  --hash=sha256:bb \\\n  --hash=sha256:aa\n\
                    -r more/others.txt\n--constraint=limits.txt\nurl @ https://x.org/u.whl#sha256=1 # x\n";
        fs::write(root.join("requirements.txt"), text).unwrap();
        fs::write(root.join("more/others.txt"), "b\n-r third.txt\n").unwrap();
        fs::write(root.join("more/third.txt"), "c").unwrap();
        fs::write(root.join("limits.txt"), "b<3\n").unwrap();
        fs::write(root.join("m.py"), "").unwrap();
        let (asked, constraints) = of(&root.join("m.py")).unwrap().files();
        assert_eq!(
            asked,
            "a==1 --hash=sha256:aa --hash=sha256:bb\nb\nc\nurl @ https://x.org/u.whl#sha256=1\n"
        );
        assert_eq!(constraints, "b<3\n");
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::write(root.join("m.py"), "").unwrap();
        fs::write(root.join("loop.txt"), "-r loop.txt").unwrap();
        for (text, problem) in [
            ("a\n\nb=1", "requirements.txt:3: \"b=1\" is no requirement"),
            (
                "--index-url https://x.org",
                ":1: the option --index-url is not for plugins",
            ),
            ("-e .", "the option -e is not for plugins"),
            ("-r ../x.txt", "must be a file in"),
            ("-r /etc/passwd", "must be a file in"),
            ("-r missing.txt", "there is no"),
            ("-r loop.txt", "at most 8 deep"),
            ("a --pre", "comes --hash=…, not --pre"),
        ] {
            fs::write(root.join("requirements.txt"), text).unwrap();
            let error = of(&root.join("m.py")).unwrap_err();
            assert!(error.contains(problem), "{text}: {error}");
        }
        fs::remove_file(root.join("requirements.txt")).unwrap();
        fs::create_dir(root.join("requirements.txt")).unwrap();
        let error = of(&root.join("m.py")).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
        fs::remove_dir(root.join("requirements.txt")).unwrap();
        fs::write(
            root.join("pyproject.toml"),
            "[project]\nrequires-python = \"three\"",
        )
        .unwrap();
        let error = of(&root.join("m.py")).unwrap_err();
        assert!(error.contains("requires-python is \"three\""), "{error}");
    }

    #[test]
    fn requirements_of_what_is_no_python_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let module = folder.path().join("m");
        fs::create_dir(&module).unwrap();
        fs::write(module.join("m.lua"), "return {}").unwrap();
        let text = "entry = \"m.lua\"\nrequirements = [\"a\"]";
        fs::write(module.join("plugin.toml"), text).unwrap();
        let error = of(&module).unwrap_err();
        assert!(error.contains("they are for Python modules"), "{error}");
        // What lies in the plugin folder is for those that can use it.
        fs::write(module.join("plugin.toml"), "entry = \"m.lua\"").unwrap();
        fs::write(folder.path().join("requirements.txt"), "a").unwrap();
        assert!(of(&module).unwrap().is_empty());
    }

    #[test]
    fn the_digest_is_of_what_is_asked_and_not_of_who_asks() {
        let asks = |text: &str, by: &str| {
            let mut all = Requirements::default();
            for line in text.lines() {
                all.add(Kind::Requirement, line, by).unwrap();
            }
            all
        };
        let digest = |all: &Requirements| all.digest(&["3.11"]);
        let first = asks("a==1\nB", "x");
        assert_eq!(digest(&first), digest(&asks("b\na == 1", "y")));
        assert_ne!(digest(&first), digest(&asks("b", "x")));
        assert_ne!(digest(&first), first.digest(&["3.12"]));
    }

    #[test]
    fn another_version_of_python_is_refused() {
        let mut all = Requirements::default();
        all.add_declared(&[], Some(">=3.12".to_owned()), "a.py")
            .unwrap();
        assert!(all.check_python("3.12.1").is_ok());
        let error = all.check_python("3.11.7").unwrap_err().to_string();
        assert!(error.contains("a.py needs Python >=3.12"), "{error}");
    }
}
