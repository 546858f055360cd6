//! The fenced blocks of a document.

use std::fs;

/// A fenced block.
#[derive(Debug)]
pub(super) struct Block {
    /// The word behind the opening fence.
    pub(super) language: String,
    /// What is in it.
    pub(super) text: String,
}

impl Block {
    /// The path that a comment in one of the first two lines names, for a block that is a file.
    pub(super) fn path(&self) -> Option<&str> {
        let mut first = self.text.lines().take(2);
        first.find_map(|line| line.strip_prefix("# plugins/"))
    }
}

/// All blocks of a document of the repository, in their order.
pub(super) fn of(document: &str) -> Vec<Block> {
    split(document).0
}

/// The blocks of a document, and the text around them.
fn split(document: &str) -> (Vec<Block>, String) {
    let (mut blocks, mut around) = (Vec::new(), String::new());
    let mut open: Option<Block> = None;
    for line in read(document).lines() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Block {
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {
                around.push_str(line);
                around.push('\n');
            }
        }
    }
    assert!(open.is_none(), "{document} has a block without an end");
    (blocks, around)
}

/// A document of the repository.
pub(super) fn read(document: &str) -> String {
    let path = runner_tests::repository(document);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Links lead to something in the repository.
#[test]
fn links_between_documents_lead_somewhere() {
    let link = regex::Regex::new(r"\]\(([^)#]+)\)").unwrap();
    for document in [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "plugins/README.md",
    ] {
        let folder = runner_tests::repository(document);
        let folder = folder.parent().unwrap();
        for found in link.captures_iter(&split(document).1) {
            let target = &found[1];
            let exists = target.contains("://") || folder.join(target).exists();
            assert!(exists, "{document} links to {target}");
        }
    }
}
