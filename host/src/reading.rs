//! Reads modules, any number at once: their files, digests and copies, and what is remembered of them.
//!
//! A stage is done for all of them before the next one. Files are looked at by all processors, and what is known
//! from earlier starts is asked for with one look-up each, so that a start with hundreds of known modules takes
//! little more than a look at their files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use runner_core::file::FileStat;
use runner_core::plugin::Description;
use serde_json::json;

use crate::HostError;
use crate::digest::{self, ModuleFile};
use crate::discovery::{Candidate, Found};
use crate::environments::{Environments, Requirements};
use crate::loader::LoaderEnvironment;
use crate::modules::DescriptionCache;
use crate::trust::Trust;

/// Work that may wait for a disk, for each item; in the order of the items, on all processors.
async fn on_all_processors<T: Send + 'static, R: Send + 'static>(
    mut items: Vec<T>,
    work: impl Fn(T) -> R + Clone + Send + 'static,
) -> Result<Vec<R>, HostError> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let share = items.len().div_ceil(processors).max(1);
    let mut parts = Vec::new();
    while !items.is_empty() {
        let rest = items.split_off(share.min(items.len()));
        let (part, work) = (std::mem::replace(&mut items, rest), work.clone());
        parts.push(tokio::task::spawn_blocking(move || {
            part.into_iter().map(work).collect::<Vec<R>>()
        }));
    }
    let mut done = Vec::new();
    for part in parts {
        done.extend(
            part.await.map_err(|error| {
                HostError::Module(format!("reading the modules failed: {error}"))
            })?,
        );
    }
    Ok(done)
}

/// The digests of those of these files that can be read.
pub(crate) async fn content_digests(
    cache: &dyn DescriptionCache,
    files: Vec<ModuleFile>,
) -> Result<HashMap<FileStat, String>, HostError> {
    let stats: Vec<FileStat> = files.iter().map(|file| file.stat).collect();
    let mut digests = cache.file_digests(&stats).await;
    let mut unknown = files;
    unknown.retain(|file| !digests.contains_key(&file.stat));
    let new = on_all_processors(unknown, |file| {
        let is_settled = file.stat.is_settled(SystemTime::now());
        let digest = digest::content_digest(&file.source).ok()?;
        Some((is_settled, (file.stat, digest)))
    });
    let (settled, young): (Vec<_>, Vec<_>) = new
        .await?
        .into_iter()
        .flatten()
        .partition(|(is_settled, _)| *is_settled);
    let settled: Vec<_> = settled.into_iter().map(|(_, known)| known).collect();
    if !settled.is_empty() {
        cache.put_file_digests(&settled).await;
    }
    digests.extend(settled);
    digests.extend(young.into_iter().map(|(_, known)| known));
    Ok(digests)
}

/// A file outside of a module, and the digest that it had when the module was described.
pub(crate) type Depends = (PathBuf, String);

/// What a host said of its module.
#[derive(Debug, Clone)]
pub(crate) struct Described {
    /// What it offers.
    pub(crate) description: Description,
    /// The name that the module gives itself.
    pub(crate) name: Option<String>,
}

/// What modules are read with.
pub(crate) struct Reading<'a> {
    /// What is known from before.
    pub(crate) cache: &'a dyn DescriptionCache,
    /// Where copies of modules lie, by their digest.
    pub(crate) snapshots: &'a Path,
    /// What descriptions depend on beside the module.
    pub(crate) environment: &'a LoaderEnvironment,
    /// Which modules may be loaded.
    pub(crate) trust: &'a Trust,
    /// The virtual environments of Python modules.
    pub(crate) environments: &'a Environments,
}

/// What became of a candidate.
pub(crate) struct Outcome {
    /// Its digest; empty if it could not be taken.
    pub(crate) digest: String,
    /// Bytes of its files.
    pub(crate) size: u64,
    /// The module, or why it cannot be used.
    pub(crate) read: Result<ReadModule, HostError>,
}

/// A module that was read and copied.
pub(crate) struct ReadModule {
    /// What was found out about it.
    pub(crate) found: Found,
    /// The file or folder to load, in the copy.
    pub(crate) entry: PathBuf,
    /// Its copy.
    pub(crate) snapshot: PathBuf,
    /// The folder in which it was found, with its neighbours; that of its copy where only some are trusted,
    /// or where it is to be the same on all machines.
    pub(crate) origin: PathBuf,
    /// The packages that it needs.
    pub(crate) requirements: Requirements,
    /// The digest of the environment with them, if it needs any.
    pub(crate) environment: Option<String>,
    /// The key of its description.
    pub(crate) key: String,
    /// Its description, if all that it depends on is as it was.
    pub(crate) remembered: Option<Described>,
}

/// What copying needs, on whichever processor.
#[derive(Clone)]
struct Means {
    snapshots: PathBuf,
    environment: LoaderEnvironment,
    trust: Trust,
}

/// A candidate whose files were listed.
struct Listed {
    candidate: Candidate,
    found: Found,
    files: Files,
    requirements: Requirements,
    /// The digest of its environment.
    environment: Option<String>,
}

/// The files of a module.
struct Files {
    all: Vec<ModuleFile>,
    /// The name of its copy.
    root: String,
    /// The entry in it.
    entry: PathBuf,
}

impl Reading<'_> {
    /// Reads and copies modules; what becomes of each stands in the order of the candidates.
    ///
    /// # Errors
    /// The work itself failed.
    pub(crate) async fn read(&self, candidates: Vec<Candidate>) -> Result<Vec<Outcome>, HostError> {
        let mut listed = on_all_processors(candidates, list).await?;
        for one in &mut listed {
            let Ok(found) = one else { continue };
            match self.environments.digest(&found.requirements).await {
                Ok(digest) => found.environment = digest,
                Err(error) => *one = Err(error),
            }
        }
        let stats: Vec<FileStat> = listed
            .iter()
            .flatten()
            .flat_map(|listed| listed.files.all.iter().map(|file| file.stat))
            .collect();
        let known = Arc::new(self.cache.file_digests(&stats).await);
        let means = Means {
            snapshots: self.snapshots.to_owned(),
            environment: self.environment.clone(),
            trust: self.trust.clone(),
        };
        let copied = on_all_processors(listed, move |listed| match listed {
            Ok(listed) => copy(listed, &known, &means),
            Err(error) => (Outcome::failed(error), Vec::new()),
        });
        let (mut outcomes, new): (Vec<_>, Vec<_>) = copied.await?.into_iter().unzip();
        let new = new.concat();
        if !new.is_empty() {
            self.cache.put_file_digests(&new).await;
        }
        self.recall(&mut outcomes).await?;
        Ok(outcomes)
    }

    /// Fills in the descriptions that are known.
    async fn recall(&self, outcomes: &mut [Outcome]) -> Result<(), HostError> {
        let keys: Vec<String> = outcomes
            .iter()
            .filter_map(|outcome| Some(outcome.read.as_ref().ok()?.key.clone()))
            .collect();
        let texts = self.cache.descriptions(&keys).await;
        let known = on_all_processors(texts.into_iter().collect(), |(key, text)| {
            let (description, depends, name): (Description, Vec<Depends>, Option<String>) =
                serde_json::from_str(&text).ok()?;
            let looked = depends.into_iter().map(|(path, digest)| {
                let file = ModuleFile::new(path, String::new()).ok()?;
                Some((file, digest))
            });
            let depends: Vec<(ModuleFile, String)> = looked.collect::<Option<_>>()?;
            Some((key, (Described { description, name }, depends)))
        });
        let mut known: HashMap<_, _> = known.await?.into_iter().flatten().collect();
        let depends = known.values().flat_map(|(_, depends)| depends);
        let files = depends.map(|(file, _)| file.clone()).collect();
        let digests = content_digests(self.cache, files).await?;
        known.retain(|_, (_, depends)| {
            depends
                .iter()
                .all(|(file, digest)| digests.get(&file.stat) == Some(digest))
        });
        for outcome in outcomes {
            if let Ok(read) = &mut outcome.read {
                read.remembered = known.get(&read.key).map(|(described, _)| described.clone());
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn failed(error: HostError) -> Self {
        Self {
            digest: String::new(),
            size: 0,
            read: Err(error),
        }
    }
}

fn list(mut candidate: Candidate) -> Result<Listed, HostError> {
    let taken = HostError::Module("it was read before".to_owned());
    let found = std::mem::replace(&mut candidate.found, Err(taken))?;
    let files = files(&candidate.path, &found)?;
    Ok(Listed {
        requirements: Requirements::of(&candidate.path, &found)?,
        environment: None,
        candidate,
        found,
        files,
    })
}

/// Copies a module, and answers the digests of those of its files that were not known and can be remembered.
fn copy(
    listed: Listed,
    known: &HashMap<FileStat, String>,
    means: &Means,
) -> (Outcome, Vec<(FileStat, String)>) {
    let Listed {
        candidate,
        found,
        files,
        requirements,
        environment,
    } = listed;
    let mut new = Vec::new();
    let contents = files.all.iter().map(|file| {
        if let Some(digest) = known.get(&file.stat) {
            return Ok((file, digest.clone()));
        }
        let is_settled = file.stat.is_settled(SystemTime::now());
        let digest = digest::content_digest(&file.source)?;
        if is_settled {
            new.push((file.stat, digest.clone()));
        }
        Ok((file, digest))
    });
    let contents: Vec<_> = match contents.collect::<Result<_, HostError>>() {
        Ok(contents) => contents,
        Err(error) => return (Outcome::failed(error), new),
    };
    let pairs: Vec<_> = contents
        .iter()
        .map(|(file, digest)| (*file, digest.as_str()))
        .collect();
    let digest = digest::digest(&pairs);
    let read = || {
        means.trust.check(&digest)?;
        let snapshot = digest::snapshot(&means.snapshots, &files.root, &pairs, &digest)?;
        let entry = match files.entry.as_os_str().is_empty() {
            true => snapshot.clone(),
            false => snapshot.join(&files.entry),
        };
        // The digest says nothing of neighbours.
        let neighbours = match means.trust.is_limited() || candidate.is_alone {
            true => &snapshot,
            false => &candidate.path,
        };
        let origin = neighbours.parent().unwrap_or(Path::new("/"));
        let origin = std::path::absolute(origin).unwrap_or_else(|_| origin.to_owned());
        let key = json!([
            digest,
            found.manifest,
            candidate.name,
            origin,
            found.loader.name(),
            crate::protocol::PROTOCOL,
            means.environment.sdk,
            means.environment.python,
            environment
        ]);
        Ok(ReadModule {
            found,
            entry,
            snapshot,
            origin,
            requirements,
            environment,
            key: digest::text_digest(&key.to_string()),
            remembered: None,
        })
    };
    let outcome = Outcome {
        read: read(),
        size: files.all.iter().map(|file| file.size).sum(),
        digest,
    };
    (outcome, new)
}

fn files(path: &Path, found: &Found) -> Result<Files, HostError> {
    let root = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("module")
        .to_owned();
    let Some(folder) = &found.folder else {
        return Ok(Files {
            entry: PathBuf::from(&root),
            all: vec![ModuleFile::new(found.entry.clone(), root)?],
            root: "module".to_owned(),
        });
    };
    let mut all = digest::files_of(folder)?;
    let entry = match found.entry.strip_prefix(folder) {
        Ok(inside) => inside.to_owned(),
        // It was built, and lies beside the runner.
        Err(_) => {
            let name = found.entry.file_name().unwrap_or_default();
            let name = name.to_string_lossy().into_owned();
            all.push(ModuleFile::new(found.entry.clone(), name.clone())?);
            all.sort_by(|a, b| a.path.cmp(&b.path));
            PathBuf::from(name)
        }
    };
    Ok(Files { all, root, entry })
}
