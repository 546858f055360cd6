//! Kernels for sessions: forked ahead of the first who asks, or when one is wanted.

use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::Shared;
use crate::config::Face;
use crate::error::SessionError;
use crate::kernel::Kernel;
use crate::kernelspecs::Kernelspec;
use crate::zygote::KernelFolder;

/// How long a zygote without sessions lives.
const ZYGOTE_IDLE: Duration = Duration::from_secs(600);

impl Shared {
    /// A kernel of this kernelspec. `folder`: where earlier kernels of the session worked.
    pub(crate) async fn kernel(
        &self,
        spec: &str,
        environment: &HashMap<String, String>,
        folder: Option<Arc<KernelFolder>>,
    ) -> Result<Kernel, SessionError> {
        let spec = self.specs.get(Some(spec))?;
        if spec.is_forked() && environment.is_empty() && folder.is_none() {
            let mut warm = self.warm();
            while let Some(kernel) = warm.pop() {
                if !kernel.is_ended() {
                    self.meters.warm.increment(1);
                    self.refill.notify_one();
                    return Ok(kernel);
                }
            }
        }
        let forked = self.fork(spec, environment, folder).await;
        match &forked {
            Ok(_) => self.meters.forked.increment(1),
            Err(_) => self.meters.failed.increment(1),
        }
        self.refill.notify_one();
        forked
    }

    /// Forks a kernel; once more from another zygote if one does not fork.
    async fn fork(
        &self,
        spec: &Kernelspec,
        environment: &HashMap<String, String>,
        folder: Option<Arc<KernelFolder>>,
    ) -> Result<Kernel, SessionError> {
        let zygote = self.current.get().await?;
        let failed = match zygote.fork(spec, environment, folder.clone()).await {
            Err(failed) if spec.is_forked() => failed,
            // What is executed fails by itself.
            outcome => return outcome,
        };
        tracing::warn!("a kernel was not forked: {failed}");
        self.current.distrust(&zygote).await;
        drop(zygote);
        let zygote = self.current.get().await?;
        zygote.fork(spec, environment, folder).await
    }

    pub(super) fn warm(&self) -> MutexGuard<'_, Vec<Kernel>> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forks kernels ahead, once somebody has wanted one; ends the zygote when nobody did for long.
pub(super) async fn refill(shared: Arc<Shared>) {
    let none = HashMap::new();
    let Ok(spec) = shared.specs.get(None).cloned() else {
        return;
    };
    loop {
        let woken = tokio::time::timeout(ZYGOTE_IDLE, shared.refill.notified()).await;
        if woken.is_err() {
            let is_used = !shared.lock().sessions.is_empty();
            let is_lasting = shared.config.face == Face::SageCell;
            if !is_used && !is_lasting && shared.current.living().is_some() {
                shared.warm().clear();
                shared.current.end().await;
            }
            continue;
        }
        while has_too_few(&shared) {
            match shared.fork(&spec, &none, None).await {
                Ok(kernel) => shared.warm().push(kernel),
                // Who needs one hears of it.
                Err(_) => break,
            }
        }
    }
}

fn has_too_few(shared: &Shared) -> bool {
    let most = {
        let table = shared.lock();
        match table.is_closed {
            true => 0,
            false => shared.config.most.saturating_sub(table.sessions.len()),
        }
    };
    let mut warm = shared.warm();
    warm.retain(|kernel| !kernel.is_ended());
    warm.len() < shared.config.warm.min(most)
}
