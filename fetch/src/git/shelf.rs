//! The folder of clones.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::program::Git;
use super::source::{self, GitSource};
use super::{GitClone, GitConfig, GitError, tree};

/// Says which commit counts.
const CURRENT: &str = "current.json";
/// How the names of drafts begin. What begins with a dot is no plugin.
const DRAFT: &str = ".draft-";
/// Between two attempts to take a lock.
const PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Shelf {
    config: GitConfig,
}

/// What stands in [`CURRENT`].
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    commit: String,
    /// The one before, which other processes may use.
    previous: Option<String>,
}

/// The place of one source.
struct Place {
    folder: PathBuf,
    /// How clones are called, each in the folder of its commit.
    name: String,
}

impl Shelf {
    pub(super) fn new(config: GitConfig) -> Self {
        Self { config }
    }

    fn place(&self, source: &GitSource) -> Place {
        Place {
            folder: self.config.folder.join(source.key()),
            name: source.name().to_owned(),
        }
    }

    /// The clone that counts.
    pub(super) fn current(&self, source: &GitSource) -> Result<GitClone, GitError> {
        let place = self.place(source);
        let record = place.record().ok_or(GitError::Unknown)?;
        place.clone_of(&record.commit, source)
    }

    /// Asks the repository, unless it is pinned to a commit that is here.
    pub(super) async fn fetch(&self, source: &GitSource) -> Result<GitClone, GitError> {
        if source.is_open() {
            tracing::warn!(
                "{source}: whoever is on the way may send other plugins; use https or ssh, or name the whole commit \
                 after @"
            );
        }
        let begin = SystemTime::now();
        let deadline = Instant::now() + self.config.timeout;
        let place = self.place(source);
        if let Some(clone) = self.pinned(&place, source) {
            return Ok(clone);
        }
        fs::create_dir_all(&place.folder).map_err(GitError::file("make", &place.folder))?;
        let _lock = self.lock(&place, deadline).await?;
        // Another process had the lock and fetched meanwhile.
        if place.fetched_at().is_some_and(|at| at >= begin)
            && let Ok(clone) = self.current(source)
        {
            return Ok(clone);
        }
        let draft = Draft::make(&place.folder)?;
        let commit = self.receive(&draft, source, deadline).await?;
        let (made, wanted) = (place.root_of(&commit), source.subdirectory().to_owned());
        let (published, checked_out) = (made.clone(), draft.tree());
        let publishing = tokio::task::spawn_blocking(move || {
            if !published.exists() {
                tree::check(&checked_out)?;
                tree::target(&checked_out, &wanted)?;
                publish(&checked_out, &published)?;
            }
            drop(draft);
            Ok(())
        });
        let failed = |error: tokio::task::JoinError| GitError::file("make", made)(error.into());
        publishing.await.map_err(failed)??;
        let clone = place.clone_of(&commit, source)?;
        place.settle(&commit, source)?;
        Ok(clone)
    }

    fn pinned(&self, place: &Place, source: &GitSource) -> Option<GitClone> {
        let commit = source.pinned()?.to_ascii_lowercase();
        let record = place.record()?;
        (record.commit == commit)
            .then(|| place.clone_of(&commit, source).ok())
            .flatten()
    }

    async fn lock(&self, place: &Place, deadline: Instant) -> Result<File, GitError> {
        let path = place.folder.join(".lock");
        let file = File::create(&path).map_err(GitError::file("make", &path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::Error(error)) => return Err(GitError::file("lock", path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                    return Err(self.timed_out());
                }
                Err(TryLockError::WouldBlock) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    fn timed_out(&self) -> GitError {
        GitError::TimedOut {
            seconds: self.config.timeout.as_secs_f64(),
        }
    }

    /// Fetches and checks out; answers the commit.
    async fn receive(
        &self,
        draft: &Draft,
        source: &GitSource,
        deadline: Instant,
    ) -> Result<String, GitError> {
        let url = self.config.url_map.apply(source.url().as_str());
        let url = Url::parse(&url)
            .map_err(|error| GitError::Malformed(format!("URL_MAP makes no URL of it: {error}")))?;
        source::check(&url).map_err(GitError::Malformed)?;
        let is_same_host = url.origin() == source.url().origin();
        let git = Git {
            url: &url,
            // They are for whom they were written.
            credentials: source.credentials().filter(|_| is_same_host),
            folder: &draft.0,
            deadline,
            timeout: self.config.timeout,
        };
        git.run(["init", "--quiet", "--bare", "--template=", "repository"])
            .await?;
        let reference = source.reference().unwrap_or("HEAD");
        let fetch = ["--git-dir=repository", "fetch", "--quiet", "--no-tags"];
        let one = ["--depth=1", "--", url.as_str(), reference];
        let found = match git.run(fetch.into_iter().chain(one)).await {
            Ok(_) => "FETCH_HEAD",
            // Servers need not know short names of commits, nor commits that no branch begins with.
            Err(GitError::Failed { said, .. })
                if source.may_be_commit() || said.contains("shallow") =>
            {
                let all = [
                    "--",
                    url.as_str(),
                    "+refs/heads/*:refs/heads/*",
                    "+refs/tags/*:refs/tags/*",
                ];
                git.run(
                    fetch
                        .into_iter()
                        .chain(all)
                        .chain(source.reference().is_none().then_some("HEAD")),
                )
                .await?;
                source.reference().unwrap_or("FETCH_HEAD")
            }
            Err(error) => return Err(error),
        };
        let commit = format!("{found}^{{commit}}");
        let commit = git
            .run([
                "--git-dir=repository",
                "rev-parse",
                "--verify",
                "--quiet",
                "--end-of-options",
                &commit,
            ])
            .await?;
        if let Some(pinned) = source.pinned()
            && !pinned.eq_ignore_ascii_case(&commit)
        {
            return Err(GitError::OtherCommit {
                asked: pinned.to_owned(),
                found: commit,
            });
        }
        let tree = draft.tree();
        fs::create_dir(&tree).map_err(GitError::file("make", &tree))?;
        git.run([
            "--git-dir=repository",
            "--work-tree=tree",
            "checkout",
            "--quiet",
            "--force",
            "--detach",
            &commit,
        ])
        .await?;
        Ok(commit)
    }
}

impl Place {
    /// The folder of a commit's clone.
    fn root_of(&self, commit: &str) -> PathBuf {
        self.folder.join(commit).join(&self.name)
    }

    fn clone_of(&self, commit: &str, source: &GitSource) -> Result<GitClone, GitError> {
        Ok(GitClone {
            commit: commit.to_owned(),
            path: tree::target(&self.root_of(commit), source.subdirectory())?,
        })
    }

    fn record(&self) -> Option<Record> {
        let text = fs::read_to_string(self.folder.join(CURRENT)).ok()?;
        let value: Value = serde_json::from_str(&text).ok()?;
        let commit = |key: &str| {
            let commit = value.get(key)?.as_str()?;
            let is_one = commit.bytes().all(|byte| byte.is_ascii_hexdigit());
            (is_one && !commit.is_empty()).then(|| commit.to_owned())
        };
        Some(Record {
            commit: commit("commit")?,
            previous: commit("previous"),
        })
    }

    fn fetched_at(&self) -> Option<SystemTime> {
        fs::metadata(self.folder.join(CURRENT))
            .ok()?
            .modified()
            .ok()
    }

    /// Makes a commit the one that counts, and removes those before the last one.
    fn settle(&self, commit: &str, source: &GitSource) -> Result<(), GitError> {
        let before = self.record();
        let previous = match before {
            Some(record) if record.commit == commit => record.previous,
            Some(record) => Some(record.commit),
            None => None,
        };
        let path = self.folder.join(CURRENT);
        let draft = self.folder.join(format!(".{CURRENT}"));
        let text = json!({"source": source.to_string(), "commit": commit, "previous": previous});
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(text.to_string().as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(GitError::file("write", &path))?;
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_kept = name.to_str().is_none_or(|name| {
                name == commit
                    || Some(name) == previous.as_deref()
                    || name == CURRENT
                    || name.starts_with('.')
            });
            if !is_kept {
                // What stays is tried again after the next fetch.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }
}

fn publish(tree: &Path, root: &Path) -> Result<(), GitError> {
    if let Some(folder) = root.parent() {
        fs::create_dir_all(folder).map_err(GitError::file("make", folder))?;
    }
    fs::rename(tree, root).map_err(GitError::file("make", root))
}

/// A folder to work in, removed when it is dropped.
struct Draft(PathBuf);

impl Draft {
    /// Removes those of processes that were killed, too: whoever has the lock is alone.
    fn make(folder: &Path) -> Result<Self, GitError> {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(DRAFT) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let path = folder.join(format!("{DRAFT}{}", std::process::id()));
        fs::create_dir(&path).map_err(GitError::file("make", &path))?;
        Ok(Self(path))
    }

    fn tree(&self) -> PathBuf {
        self.0.join("tree")
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
