//! Inline script metadata: what a single file says it needs, in a comment
//! ([PEP 723](https://peps.python.org/pep-0723/)).

use serde::Deserialize;

/// How the block of a script begins.
const BEGIN: &str = "# /// script";
/// How every block ends.
const END: &str = "# ///";

/// What the block says. Other keys are for other tools.
#[derive(Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "kebab-case")]
pub(super) struct Script {
    pub(super) dependencies: Vec<String>,
    pub(super) requires_python: Option<String>,
}

/// Reads the block of a source text, if it has one.
///
/// # Errors
/// The block has no end, is there twice, or is no TOML.
pub(super) fn read(source: &str) -> Result<Option<Script>, String> {
    let lines: Vec<&str> = source.lines().map(str::trim_end).collect();
    let mut blocks = lines.iter().enumerate().filter(|(_, line)| **line == BEGIN);
    let Some((begin, _)) = blocks.next() else {
        return Ok(None);
    };
    let is_of_block = |line: &&&str| **line == "#" || line.starts_with("# ");
    let block: Vec<&str> = lines[begin + 1..]
        .iter()
        .take_while(is_of_block)
        .copied()
        .collect();
    // The last one: a line of the content may look like an end.
    let Some(end) = block.iter().rposition(|line| *line == END) else {
        return Err(format!(
            "line {}: the block {BEGIN:?} has no end; expected a line {END:?}, and comments up to it",
            begin + 1
        ));
    };
    if let Some((second, _)) = blocks.find(|(at, _)| *at > begin + 1 + end) {
        return Err(format!(
            "line {}: the block {BEGIN:?} is there twice",
            second + 1
        ));
    }
    let content: Vec<&str> = block[..end]
        .iter()
        .map(|line| line.strip_prefix("# ").unwrap_or(""))
        .collect();
    let script = toml::from_str(&content.join("\n")).map_err(|error| {
        let problem = error.to_string();
        format!(
            "the block {BEGIN:?} in line {}: {}",
            begin + 1,
            problem.trim()
        )
    })?;
    Ok(Some(script))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_block_is_found_wherever_it_stands() {
        let source = "#!/usr/bin/env python3\n\n# /// script\n# requires-python = \">=3.9\"\n#\n\
                      # dependencies = [\n#   \"a>=1\",\n# ]\n# [tool.x]\n# y = 1\n# ///\nimport a\n";
        let script = read(source).unwrap().unwrap();
        assert_eq!(script.dependencies, ["a>=1"]);
        assert_eq!(script.requires_python.as_deref(), Some(">=3.9"));
        assert_eq!(read("import a\n# /// scripts\n# ///\n").unwrap(), None);
        let empty = read("# /// script\r\n# ///\r\n").unwrap();
        assert_eq!(empty, Some(Script::default()));
    }

    #[test]
    fn what_is_wrong_with_a_block_is_said() {
        for (source, problem) in [
            (
                "# /// script\n# dependencies = []\nimport a",
                "line 1: the block",
            ),
            ("# /// script\n# dependencies = 1\n# ///", "dependencies"),
            ("# /// script\n# x = [\n# ///", "in line 1"),
            (
                "# /// script\n# ///\n\n# /// script\n# ///",
                "line 4: the block \"# /// script\" is there twice",
            ),
        ] {
            let error = read(source).unwrap_err();
            assert!(error.contains(problem), "{source}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_source_makes_it_panic(source in "(# /// script\n|# ///\n|#\n|# a = 1\n|x\n|\\PC{0,8}){0,12}") {
            let _ = read(&source);
        }
    }
}
