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

/// All documents of the repository, from its root.
pub(super) fn documents() -> Vec<String> {
    let mut documents: Vec<String> = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "plugins/README.md",
        "sdk/python/README.md",
        "sdk/rust/README.md",
        "tests/data/README.md",
        "tests/transcripts/DEVIATIONS.md",
    ]
    .map(str::to_owned)
    .into();
    let folder = fs::read_dir(runner_tests::repository("docs")).expect("docs");
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    documents.extend(
        names
            .filter(|name| name.ends_with(".md"))
            .map(|name| format!("docs/{name}")),
    );
    documents
}

/// The headings of a document as links name them.
fn anchors(document: &str) -> Vec<String> {
    let (_, around) = split(document);
    let headings = around.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.collect::<String>().replace(' ', "-")
    };
    headings.map(anchor).collect()
}

/// Links lead to something in the repository, and to headings that there are.
#[test]
fn links_between_documents_lead_somewhere() {
    let link = regex::Regex::new(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)").unwrap();
    let mut count = 0;
    for document in documents() {
        let folder = std::path::Path::new(&document).parent().unwrap();
        for found in link.captures_iter(&split(&document).1) {
            let target = &found[1];
            if target.contains("://") {
                continue;
            }
            count += 1;
            let path = match target {
                "" => document.clone(),
                target => folder.join(target).to_string_lossy().into_owned(),
            };
            let exists = runner_tests::repository(&path).exists();
            assert!(exists, "{document} links to {target}");
            if let Some(anchor) = found.get(2) {
                let there = anchors(&path);
                assert!(
                    there.iter().any(|one| one == anchor.as_str()),
                    "{document} links to {}: there are {there:#?}",
                    &found[0]
                );
            }
        }
    }
    assert!(count > 50, "{count}");
}
