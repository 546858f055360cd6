//! Plugins from git: what `GIT_PLUGINS` names, fetched into a folder of clones.
//!
//! The program `git` does it, since whoever has repositories has it, with all their ways of transport and
//! authentication; a library would bring a second TLS, a second SSH, and less of either. It is held tightly, see
//! `program`.
//!
//! # What lies in the folder
//! `<name>-<digest>/` for each source: `<commit>/<name>/` is what was checked out, without `.git` and never changed
//! afterwards; `current.json` says which commit counts. A fetch makes a draft beside and renames it, so that a clone
//! is whole or absent; the commit before stays until the next one, for processes that still use it. A lock for each
//! source keeps processes apart that share the folder: who waited for another's fetch takes what that one got.

mod error;
mod program;
mod shelf;
mod source;
mod tree;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::UrlMap;
pub use error::GitError;
use shelf::Shelf;
use source::{GitSource, Malformed};

/// The most sources.
const MAX_SOURCES: usize = 100;
/// Fetches at a time.
const AT_ONCE: usize = 4;

/// How repositories are fetched, and where to.
#[derive(Debug, Clone)]
pub struct GitConfig {
    /// The folder of all clones.
    pub folder: PathBuf,
    /// Rewrites URLs before they are opened.
    pub url_map: UrlMap,
    /// How long the fetch of one source may take, waiting for other processes included.
    pub timeout: Duration,
}

/// What `GIT_PLUGINS` names.
#[derive(Debug, Clone)]
pub struct GitPlugins {
    lines: Vec<Result<GitSource, Malformed>>,
    shelf: Arc<Shelf>,
}

/// What became of one source.
#[derive(Debug)]
pub struct GitPlugin {
    /// The source without credentials.
    pub source: String,
    /// The name of its repository.
    pub name: String,
    /// What can be loaded, also if it is not the newest.
    pub clone: Option<GitClone>,
    /// Why it is not the newest, or not there.
    pub problem: Option<GitError>,
}

/// What was cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitClone {
    /// The commit, in full.
    pub commit: String,
    /// A folder of plugins, one package, or one file, whichever it is.
    pub path: PathBuf,
}

impl GitPlugins {
    /// Reads sources as pip writes them, `git+<url>[@ref][#subdirectory=dir]`, separated by newlines or blanks. What
    /// is wrong with one stands in its outcome.
    pub fn new(text: &str, config: GitConfig) -> Self {
        let mut lines = Vec::new();
        for text in text.split_whitespace() {
            let line = match lines.len() < MAX_SOURCES {
                true => GitSource::parse(text),
                false => Err(Malformed::new(
                    text,
                    format!("GIT_PLUGINS names more than {MAX_SOURCES} repositories"),
                )),
            };
            if lines.len() <= MAX_SOURCES && !lines.contains(&line) {
                lines.push(line);
            }
        }
        Self {
            lines,
            shelf: Arc::new(Shelf::new(config)),
        }
    }

    /// Sources as they may be shown: a line each, without credentials.
    pub fn shown(text: &str) -> String {
        let lines = text
            .split_whitespace()
            .map(|text| match GitSource::parse(text) {
                Ok(source) => source.to_string(),
                Err(malformed) => malformed.shown,
            });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Whether nothing is named.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The clones that are there; nobody is asked.
    pub fn known(&self) -> Vec<GitPlugin> {
        let known = self.lines.iter().map(|line| match line {
            Ok(source) => GitPlugin::new(source, self.shelf.current(source), &self.shelf),
            Err(malformed) => malformed.into(),
        });
        known.collect()
    }

    /// Fetches all, a few at a time. Where that fails, the last good clone is used.
    pub async fn fetch(&self) -> Vec<GitPlugin> {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        // Dropped with this future, and with it what was started.
        let mut fetches = JoinSet::new();
        for (number, line) in self.lines.iter().cloned().enumerate() {
            let (shelf, places) = (Arc::clone(&self.shelf), Arc::clone(&places));
            fetches.spawn(async move {
                let fetched = match line {
                    Ok(source) => {
                        let _place = places.acquire_owned().await;
                        GitPlugin::new(&source, shelf.fetch(&source).await, &shelf)
                    }
                    Err(malformed) => GitPlugin::from(&malformed),
                };
                if let Some(problem) = &fetched.problem {
                    tracing::error!("{}: {problem}", fetched.source);
                }
                (number, fetched)
            });
        }
        let mut fetched = fetches.join_all().await;
        fetched.sort_by_key(|(number, _)| *number);
        fetched.into_iter().map(|(_, fetched)| fetched).collect()
    }
}

impl GitPlugin {
    fn new(source: &GitSource, outcome: Result<GitClone, GitError>, shelf: &Shelf) -> Self {
        let (clone, problem) = match outcome {
            Ok(clone) => (Some(clone), None),
            Err(problem) => (shelf.current(source).ok(), Some(problem)),
        };
        Self {
            source: source.to_string(),
            name: source.name().to_owned(),
            clone,
            problem,
        }
    }
}

impl From<&Malformed> for GitPlugin {
    fn from(malformed: &Malformed) -> Self {
        Self {
            source: malformed.shown.clone(),
            name: "git".to_owned(),
            clone: None,
            problem: Some(GitError::Malformed(malformed.reason.clone())),
        }
    }
}
