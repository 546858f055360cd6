//! Which zygote forks.

use std::sync::Arc;
use std::time::Duration;

use runner_host::Guests;
use tokio::sync::oneshot;

use super::Zygote;
use crate::config::SessionsConfig;
use crate::error::SessionError;
use crate::kernelspecs::Kernelspecs;

/// The zygote that forks now, started when it is needed.
#[derive(Debug)]
pub(crate) struct Current {
    guests: tokio::sync::Mutex<Held>,
    config: Arc<SessionsConfig>,
    specs: Arc<Kernelspecs>,
}

/// How guests are had: from the modules, once these know their folders.
pub(crate) type Source = oneshot::Receiver<Guests>;

#[derive(Debug)]
struct Held {
    coming: Option<Source>,
    guests: Option<Guests>,
    zygote: Option<Arc<Zygote>>,
    failed: Option<(tokio::time::Instant, String)>,
}

/// How long after a failed start the next one is not tried.
const START_PAUSE: Duration = Duration::from_secs(2);

impl Current {
    pub(crate) fn new(
        source: Source,
        config: Arc<SessionsConfig>,
        specs: Arc<Kernelspecs>,
    ) -> Self {
        Self {
            guests: tokio::sync::Mutex::new(Held {
                coming: Some(source),
                guests: None,
                zygote: None,
                failed: None,
            }),
            config,
            specs,
        }
    }

    /// The zygote; started if there is none that lives.
    pub(crate) async fn get(&self) -> Result<Arc<Zygote>, SessionError> {
        let mut held = self.guests.lock().await;
        if let Some(zygote) = held.zygote.take_if(|zygote| zygote.is_gone()) {
            tracing::warn!("the zygote of kernels ended; another one is started");
            drop(zygote);
        }
        if let Some(zygote) = &held.zygote {
            return Ok(Arc::clone(zygote));
        }
        if let Some((at, why)) = &held.failed
            && at.elapsed() < START_PAUSE
        {
            return Err(SessionError::Start(why.clone()));
        }
        if let Some(coming) = held.coming.take() {
            let came = coming.await;
            held.guests = came.ok();
        }
        let Some(guests) = &held.guests else {
            return Err(SessionError::Start("the runner ends".to_owned()));
        };
        match Zygote::start(guests, &self.config, &self.specs).await {
            Ok(zygote) => {
                held.failed = None;
                held.zygote = Some(Arc::clone(&zygote));
                Ok(zygote)
            }
            Err(error) => {
                let error = match error {
                    SessionError::Start(why) => why,
                    other => other.to_string(),
                };
                tracing::warn!("kernels cannot be started: {error}");
                held.failed = Some((tokio::time::Instant::now(), error.clone()));
                Err(SessionError::Start(error))
            }
        }
    }

    /// The zygote that lives, if one does; without waiting.
    pub(crate) fn living(&self) -> Option<Arc<Zygote>> {
        let held = self.guests.try_lock().ok()?;
        held.zygote.clone().filter(|zygote| !zygote.is_gone())
    }

    /// Forks no more from this one: it did not fork in time. Its kernels live on.
    pub(crate) async fn distrust(&self, zygote: &Arc<Zygote>) {
        let mut held = self.guests.lock().await;
        held.zygote.take_if(|current| Arc::ptr_eq(current, zygote));
    }

    /// Ends it.
    pub(crate) async fn end(&self) {
        let zygote = self.guests.lock().await.zygote.take();
        if let Some(zygote) = zygote {
            zygote.end();
        }
    }
}
