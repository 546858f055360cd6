//! `runner plugin new`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};

use crate::screen::{self, BOLD, note, paint};

/// Where plugins of one's own are kept.
const USUAL_FOLDER: &str = "plugins";
/// The longest name, in bytes.
const MAX_NAME: usize = 64;

/// Arguments of `runner plugin new`.
#[derive(Debug, Args)]
#[command(after_help = "\
python  a function with type hints
rust    a crate that becomes a shared object: fastest calls; needs the runner's repository for its SDK
c       a shared object; its SDK is one header, which is put beside it
lua     a table with a function; an interpreter of its own for each run
wasm    a WebAssembly module, here in C; an instance of its own for each run
exec    an executable that speaks the protocol: a template for any language

Examples:
  runner plugin new shout --lang python
  runner plugin new fast-shout --lang rust --folder ~/plugins")]
pub(crate) struct New {
    /// Its name: small letters, digits and dashes.
    name: String,
    /// In what it is written.
    #[arg(long)]
    lang: Lang,
    /// Where its folder is made [default: plugins if there is such a folder, else here]
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
    /// The folder `sdk/rust` of the runner's repository [default: looked for upwards from where the plugin is made
    /// and from this program]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Lang {
    Python,
    Rust,
    C,
    Lua,
    Wasm,
    Exec,
}

/// A file of a template: its path, its text, whether it may be executed.
type File = (&'static str, &'static str, bool);

const PYTHON: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/python/plugin.toml"),
        false,
    ),
    (
        "@snake@.py",
        include_str!("../../../templates/python/plugin.py"),
        false,
    ),
    (
        "tests/test_@snake@.py",
        include_str!("../../../templates/python/tests/test_plugin.py"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/python/README.md"),
        false,
    ),
];
const RUST: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/rust/plugin.toml"),
        false,
    ),
    (
        "Cargo.toml",
        include_str!("../../../templates/rust/Cargo.toml.in"),
        false,
    ),
    (
        ".gitignore",
        include_str!("../../../templates/rust/gitignore"),
        false,
    ),
    (
        "src/lib.rs",
        include_str!("../../../templates/rust/src/lib.rs.in"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/rust/README.md"),
        false,
    ),
];
const EXEC: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/exec/plugin.toml"),
        false,
    ),
    (
        "@name@",
        include_str!("../../../templates/exec/plugin"),
        true,
    ),
    (
        "tests/test_@snake@.py",
        include_str!("../../../templates/exec/tests/test_plugin.py"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/exec/README.md"),
        false,
    ),
];

/// The SDK for C.
const HEADER: File = (
    "runner_plugin.h",
    include_str!("../../../../sdk/c/runner_plugin.h"),
    false,
);
/// The same source is a shared object and a WebAssembly module.
const C_SOURCE: File = (
    "@snake@.c",
    include_str!("../../../templates/c/plugin.c"),
    false,
);
const C: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/c/plugin.toml"),
        false,
    ),
    C_SOURCE,
    HEADER,
    (
        "Makefile",
        include_str!("../../../templates/c/Makefile"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/c/README.md"),
        false,
    ),
];
const WASM: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/wasm/plugin.toml"),
        false,
    ),
    C_SOURCE,
    HEADER,
    (
        "Makefile",
        include_str!("../../../templates/wasm/Makefile"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/wasm/README.md"),
        false,
    ),
];
const LUA: &[File] = &[
    (
        "plugin.toml",
        include_str!("../../../templates/lua/plugin.toml"),
        false,
    ),
    (
        "@snake@.lua",
        include_str!("../../../templates/lua/plugin.lua"),
        false,
    ),
    (
        "README.md",
        include_str!("../../../templates/lua/README.md"),
        false,
    ),
];

impl New {
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        check_name(&self.name, self.lang)?;
        let parent =
            self.folder
                .clone()
                .unwrap_or_else(|| match Path::new(USUAL_FOLDER).is_dir() {
                    true => PathBuf::from(USUAL_FOLDER),
                    false => PathBuf::from("."),
                });
        let folder = parent.join(&self.name);
        // A path without a slash would be taken for a name.
        let shown = match folder.components().next() {
            Some(Component::Normal(_)) => Path::new(".").join(&folder),
            _ => folder.clone(),
        };
        if folder.symlink_metadata().is_ok() {
            bail!(
                "{} is there already; choose another name, or remove it",
                folder.display()
            );
        }
        let sdk = match self.lang {
            Lang::Rust => self.sdk_dependency(&parent)?,
            Lang::Python | Lang::C | Lang::Lua | Lang::Wasm | Lang::Exec => String::new(),
        };
        let snake = self.name.replace('-', "_");
        let shown = shown.display().to_string();
        let fill = |text: &str| {
            text.replace("@name@", &self.name)
                .replace("@crate@", &self.name)
                .replace("@snake@", &snake)
                .replace("@Type@", &type_name(&self.name))
                .replace("@folder@", &shown)
                .replace("@sdk@", &sdk)
        };
        let files = match self.lang {
            Lang::Python => PYTHON,
            Lang::Rust => RUST,
            Lang::C => C,
            Lang::Lua => LUA,
            Lang::Wasm => WASM,
            Lang::Exec => EXEC,
        };
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for (path, text, is_executable) in files {
            let path = folder.join(fill(path));
            // The header is a file of the SDK, not of the template.
            let text = match path.ends_with(HEADER.0) {
                true => (*text).to_owned(),
                false => fill(text),
            };
            write(&path, &text, *is_executable)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        screen::print(&format!(
            "made {}\n\n{}",
            paint(BOLD, &shown),
            fill(next(self.lang))
        ))
    }

    /// The line of `Cargo.toml`. Where there is no repository the author has to fill it in.
    fn sdk_dependency(&self, parent: &Path) -> anyhow::Result<String> {
        if let Some(sdk) = &self.sdk {
            let sdk = sdk
                .canonicalize()
                .with_context(|| format!("cannot find {}", sdk.display()))?;
            if !is_sdk(&sdk) {
                bail!("{} is not the crate runner-sdk", sdk.display());
            }
            return Ok(dependency(&sdk));
        }
        let program = std::env::current_exe().ok();
        let start = std::path::absolute(parent).ok();
        let found = [start, program].into_iter().flatten().find_map(|from| {
            let above = from
                .ancestors()
                .map(|folder| folder.join("sdk/rust"))
                .find(|sdk| is_sdk(sdk));
            above.and_then(|sdk| sdk.canonicalize().ok())
        });
        Ok(match found {
            Some(sdk) => dependency(&sdk),
            None => {
                note(
                    "the runner's repository is not here: write the path of its folder sdk/rust into Cargo.toml \
                     before you build",
                );
                "# Where the folder sdk/rust of the runner's repository is:\n\
                 runner-sdk = { path = \"../runner/sdk/rust\" }"
                    .to_owned()
            }
        })
    }
}

fn is_sdk(folder: &Path) -> bool {
    fs::read_to_string(folder.join("Cargo.toml"))
        .is_ok_and(|text| text.contains("name = \"runner-sdk\""))
}

fn dependency(sdk: &Path) -> String {
    format!(
        "runner-sdk = {{ path = {} }}",
        toml::Value::from(sdk.display().to_string())
    )
}

fn write(path: &Path, text: &str, is_executable: bool) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)?;
    if is_executable {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn next(lang: Lang) -> &'static str {
    match lang {
        Lang::Python => {
            "Look whether it is right, run it, test it:\n\
             \x20 runner plugin check @folder@\n\
             \x20 runner plugin run @folder@ -p text=hello -p times=3\n\
             \x20 PYTHONPATH=$(runner plugin sdk) python3 -m unittest discover -s @folder@/tests\n"
        }
        Lang::Rust => {
            "Test it, build it, look whether it is right, run it:\n\
             \x20 cd @folder@\n\
             \x20 cargo test\n\
             \x20 cargo build --release && cp \"${CARGO_TARGET_DIR:-target}/release/lib@snake@.so\" .\n\
             \x20 runner plugin check .\n\
             \x20 runner plugin run . -p text=hello -p times=3\n"
        }
        Lang::C | Lang::Wasm => {
            "Build it, look whether it is right, run it:\n\
             \x20 cd @folder@\n\
             \x20 make\n\
             \x20 runner plugin check .\n\
             \x20 runner plugin run . -p text=hello -p times=3\n"
        }
        Lang::Lua => {
            "Look whether it is right, run it:\n\
             \x20 runner plugin check @folder@\n\
             \x20 runner plugin run @folder@ -p text=hello -p times=3\n"
        }
        Lang::Exec => {
            "Look whether it is right, run it, test it:\n\
             \x20 runner plugin check @folder@\n\
             \x20 runner plugin run @folder@ -p text=hello -p times=3\n\
             \x20 python3 -m unittest discover -s @folder@/tests\n"
        }
    }
}

/// The name becomes that of a folder, a function, a crate and a type.
fn check_name(name: &str, lang: Lang) -> anyhow::Result<()> {
    let is_plain = name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        && !name.ends_with('-')
        && !name.contains("--");
    if !is_plain {
        bail!(
            "{name:?} is no name for a plugin: expected small letters, digits and dashes, such as my-plugin"
        );
    }
    let (words, language) = match lang {
        Lang::Python => (PYTHON_WORDS, "Python"),
        Lang::Rust => (RUST_WORDS, "Rust"),
        Lang::C | Lang::Lua | Lang::Wasm => return Ok(()),
        Lang::Exec => {
            return if name == "tests" {
                taken(name, "the folder of its tests")
            } else {
                Ok(())
            };
        }
    };
    match words.contains(&name) {
        true => taken(name, &format!("a word of {language}")),
        false => Ok(()),
    }
}

fn taken(name: &str, what: &str) -> anyhow::Result<()> {
    bail!("{name:?} is {what}; choose another name, such as my-{name}")
}

/// What no function of Python may be called, and the name of the SDK.
const PYTHON_WORDS: &[&str] = &[
    "and", "as", "assert", "async", "await", "break", "class", "continue", "def", "del", "elif",
    "else", "except", "finally", "for", "from", "global", "if", "import", "in", "is", "lambda",
    "nonlocal", "not", "or", "pass", "plugin", "raise", "return", "runner", "tests", "try",
    "while", "with", "yield",
];
/// What no crate of Rust may be called, and what the template uses.
const RUST_WORDS: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "build",
    "const",
    "continue",
    "core",
    "crate",
    "deps",
    "do",
    "dyn",
    "else",
    "enum",
    "examples",
    "extern",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "incremental",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "pub",
    "ref",
    "return",
    "runner-sdk",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "task",
    "test",
    "text",
    "trait",
    "try",
    "type",
    "typeof",
    "union",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
];

/// `my-plugin` becomes `MyPlugin`; a name of the SDK is avoided.
fn type_name(name: &str) -> String {
    let words = name.split('-').map(|word| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| {
            first.to_uppercase().chain(letters).collect::<String>()
        })
    });
    let name = words.collect::<String>();
    let is_taken = [
        "DataOutput",
        "Description",
        "Failure",
        "Integer",
        "Outcome",
        "Plugin",
        "Result",
        "Self",
        "String",
        "Task",
        "Text",
        "Trial",
        "Vec",
    ]
    .contains(&name.as_str());
    if is_taken {
        format!("{name}Plugin")
    } else {
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_every_place_that_they_go_to() {
        for name in ["a", "my-plugin", "p2"] {
            assert!(check_name(name, Lang::Rust).is_ok(), "{name}");
        }
        for name in [
            "",
            "A",
            "2p",
            "a/b",
            "..",
            "a b",
            "a-",
            "a--b",
            "ä",
            &"a".repeat(65),
        ] {
            assert!(check_name(name, Lang::Exec).is_err(), "{name}");
        }
        assert!(check_name("class", Lang::Python).is_err());
        assert!(check_name("fn", Lang::Rust).is_err());
        assert!(check_name("class", Lang::Exec).is_ok());
        assert_eq!(
            (
                type_name("my-plugin").as_str(),
                type_name("plugin").as_str()
            ),
            ("MyPlugin", "PluginPlugin")
        );
    }
}
