//! Kept modules: those that an administrator loaded, whose files are where all processes can have them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use runner_core::module::Origin;
use runner_core::wanted::{Kept, Wanted};

use super::Modules;
use super::change::{ChangeError, blocking};
use super::module::{Module, Source};
use crate::discovery::Candidate;
use crate::tap::Tap;
use crate::{HostError, package};

impl Modules {
    /// Puts the files of a module to where all processes can have them.
    pub(super) async fn keep(&self, module: &Module) -> Result<Kept, ChangeError> {
        let status = module.status();
        let name = status.name;
        let failed = |error: HostError| ChangeError::Failed {
            name: name.clone(),
            reason: error.to_string(),
        };
        let pool = module.running().map_err(failed)?;
        let (ledger, snapshot) = (Arc::clone(&self.ledger), pool.snapshot().to_owned());
        let kept = blocking(move || {
            let (package, size) = package::pack(&snapshot)?;
            Ok::<_, HostError>(ledger.keep(package).map(|key| (key, size)))
        });
        let stored = kept.await?.map_err(failed)?;
        let (key, size) = stored.map_err(|reason| ChangeError::Unavailable { name, reason })?;
        Ok(Kept {
            digest: status.sha256,
            key,
            size,
            path: status.path,
        })
    }

    /// A kept module as it can be loaded on this machine, from a copy of its own.
    pub(super) async fn kept_candidate(&self, wanted: &Wanted, kept: &Kept) -> Candidate {
        let path = self.unpacked(kept).await;
        let config = self.config.clone();
        let (name, loader) = (wanted.name.clone(), wanted.loader.clone());
        let shown = PathBuf::from(&kept.path);
        let looked = tokio::task::spawn_blocking(move || match path {
            Ok(path) => config.discovery(loader.as_deref()).look_at_one(&path),
            Err(error) => Candidate::failed(&shown, error),
        });
        let looked = looked.await.unwrap_or_else(|error| {
            let error = HostError::Module(format!("looking at it failed: {error}"));
            Candidate::failed(Path::new(&kept.path), error)
        });
        Candidate { name, ..looked }
    }

    /// A load of a kept module that begins.
    pub(super) fn kept_module(
        &self,
        wanted: &Wanted,
        kept: &Kept,
        candidate: &Candidate,
        tap: Arc<Tap>,
    ) -> Arc<Module> {
        let source = Source {
            path: candidate.path.clone(),
            name: Some(wanted.name.clone()),
            args: wanted.args.clone(),
            loader: wanted.loader.clone(),
            origin: Origin::Administrator,
        };
        let module = self.module(candidate, source, tap);
        module.is_loaded_for(wanted.loaded);
        module.change(|status| status.path.clone_from(&kept.path));
        module
    }

    /// The files of a kept module, fetched if this machine has not got them.
    async fn unpacked(&self, kept: &Kept) -> Result<PathBuf, HostError> {
        let snapshots = self.config.instance.join("modules");
        let name = Path::new(&kept.path).file_name().unwrap_or_default();
        if let Some(path) = package::unpacked(&snapshots, &kept.digest, &name.to_string_lossy()) {
            return Ok(path);
        }
        let _place = self.fetching.acquire().await;
        let (ledger, kept) = (Arc::clone(&self.ledger), kept.clone());
        let unpacking = tokio::task::spawn_blocking(move || {
            let package = ledger.open(&kept).map_err(|error| {
                HostError::Away(format!(
                    "its files cannot be had from the file store: {error}"
                ))
            })?;
            package::unpack(package, &snapshots, &kept.digest)
        });
        let unpacked = unpacking.await;
        unpacked.map_err(|error| HostError::Module(format!("unpacking it failed: {error}")))?
    }
}
