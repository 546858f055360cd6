//! A source that is no built-in: by a task of its own, which asks for items as there is room for
//! them.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::calls::{end, flushed};
use crate::control::Control;
use crate::item::{Item, Lineage};
use crate::output::{Output, count};
use crate::run::UnitError;
use crate::sight::NodeSight;
use crate::surroundings::{Call, Failure, Pulled};

/// Items that are asked for at a time.
const PULLED: usize = 256;

/// A source and its edges.
pub(crate) struct PullUnit {
    pub(crate) name: String,
    pub(crate) node: Arc<dyn Call>,
    pub(crate) main: Vec<Output>,
    pub(crate) sight: Arc<NodeSight>,
    pub(crate) control: Control,
}

impl PullUnit {
    /// Works until the source ends, is ended, or nobody takes what it makes.
    pub(crate) async fn run(mut self) -> Result<(), UnitError> {
        let mut number = 0;
        loop {
            flushed(&mut self.main, &mut []).await;
            let is_unread = !self.main.is_empty() && self.main.iter().all(Output::is_unread);
            if is_unread || !self.is_wanted().await {
                break;
            }
            let pulled = self.pull().await;
            let Pulled { values, is_end } = pulled.map_err(|failure| {
                self.sight.fail(&failure.reason);
                UnitError::failed(&self.name, None, failure.reason)
            })?;
            let items: Vec<Item> = (number..)
                .zip(values)
                .map(|(number, value)| Item::new(Lineage::new(number), value))
                .collect();
            number += items.len() as u64;
            count(&items, &self.sight);
            for output in &mut self.main {
                output.sight().pass(&items);
                output.put(items.iter().cloned());
            }
            if is_end {
                flushed(&mut self.main, &mut []).await;
                break;
            }
        }
        end(&self.name, &*self.node).await?;
        self.main.iter_mut().for_each(Output::end);
        self.sight.is_ended.store(true, Relaxed);
        Ok(())
    }

    /// Waits while it is held; whether more is wanted then.
    async fn is_wanted(&self) -> bool {
        let mut watch = self.control.watch();
        loop {
            if self.control.is_draining() {
                return false;
            }
            if !self.control.is_held(&self.sight) {
                return true;
            }
            watch.changed().await;
        }
    }

    /// The next items; none, and the end, where the run is drained meanwhile.
    async fn pull(&self) -> Result<Pulled, Failure> {
        let mut watch = self.control.watch();
        let mut pulling = self.node.pull(PULLED);
        loop {
            tokio::select! {
                pulled = &mut pulling => return pulled,
                () = watch.changed() => if self.control.is_draining() {
                    return Ok(Pulled { is_end: true, ..Pulled::default() });
                },
            }
        }
    }
}
