//! What is removed when it is old.
//!
//! A task that has ended is removed when it is older than is said, unless something that has not ended needs it:
//! - a task that it called, or that called it;
//! - a task that has not ended, or a schedule, whose values name a file of it by its URL;
//! - a webhook that is still to be told of it.
//!
//! Rows go before content. There is no index of when tasks ended, which each task would pay for: numbers grow with
//! time, so that the old ones are at the beginning of the index of states.

mod old;
mod removal;

use std::time::{Duration, Instant, SystemTime};

use runner_core::retention::{ENDED, Retention};
use serde::{Deserialize, Serialize};

use self::old::{Old, ids_json};
use self::removal::{Content, RemoveFiles, RemoveTasks};
use crate::files::blocking;
use crate::runs::token;
use crate::{Store, StoreError};

/// Tasks that are removed by one write, and bytes of their logs: others wait for it.
const BATCH: usize = 50;
const BATCH_BYTES: i64 = 4 * 1024 * 1024;
/// The shortest pause after a write, so that others come in between.
const BREATH: Duration = Duration::from_millis(5);

/// What is old enough to be removed, or was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Due {
    /// Finished tasks.
    pub tasks: u64,
    /// Files of finished tasks.
    pub files: u64,
    /// Bytes of these files.
    pub bytes: u64,
    /// Finished tasks that are old, and needed by something that has not ended.
    pub kept: u64,
}

/// What a round of housekeeping did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Removed {
    /// Tasks and their files.
    #[serde(flatten)]
    pub due: Due,
    /// Files that belonged to no task.
    pub temporary: u64,
    /// Permalinks that nobody read.
    pub permalinks: u64,
    /// What could not be done, in words. The rest was done all the same.
    pub errors: Vec<String>,
}

/// For whom it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Whatever others do.
    Own,
    /// For all processes, as long as it is this one's turn.
    ForAll,
}

impl Store {
    /// What is old enough to be removed now. Nothing is changed.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn due_removals(&self, retention: &Retention) -> Result<Due, StoreError> {
        let mut due = Due::default();
        let referenced = self.referenced_tasks(retention).await?;
        for state in ENDED {
            let Some(before) = self.cutoff(&retention.tasks, state).await? else {
                continue;
            };
            let mut after = 0;
            while let Some((old, last)) = self.old_tasks(state, before, after).await? {
                after = last;
                let free = self.not_needed(&old, &referenced).await?;
                due.tasks += free.len() as u64;
                due.kept += (old.len() - free.len()) as u64;
                let (files, bytes) = self.files_of(&free).await?;
                due.files += files;
                due.bytes += bytes;
            }
        }
        let mut after = 0;
        while let Some((old, last)) = self.old_files(retention, after).await? {
            after = last;
            let free = self.not_needed(&old, &referenced).await?;
            let free = self.kept_for_longer(free, retention).await?;
            let (files, bytes) = self.files_of(&free).await?;
            due.files += files;
            due.bytes += bytes;
        }
        Ok(due)
    }

    /// Removes what is old, in small writes with pauses in between. What fails is told, and the rest is done.
    pub async fn remove_old(&self, retention: &Retention) -> Removed {
        self.remove_while(retention, Turn::Own).await
    }

    /// Ends early where another process has taken over.
    pub(crate) async fn remove_while(&self, retention: &Retention, turn: Turn) -> Removed {
        let mut removed = Removed::default();
        // First what needs no room in the database, which may be full.
        match self
            .sweep_files(SystemTime::now() - retention.temporary)
            .await
        {
            Ok(count) => removed.temporary = count,
            Err(error) => removed.failed("files that belong to no task", &error),
        }
        if let Err(error) = self.forget_removed().await {
            removed.failed("notes about removed modules", &error);
        }
        if let Some(unread) = retention.permalinks {
            match self.remove_permalinks(unread).await {
                Ok(count) => removed.permalinks = count,
                Err(error) => removed.failed("permalinks that nobody reads", &error),
            }
        }
        if let Err(error) = self.remove_tasks(retention, turn, &mut removed).await {
            removed.failed("old tasks", &error);
        }
        if let Err(error) = self.remove_files(retention, turn, &mut removed).await {
            removed.failed("files of old tasks", &error);
        }
        removed
    }

    async fn goes_on(&self, turn: Turn) -> bool {
        match turn {
            Turn::Own => true,
            Turn::ForAll => self.keeps_house().await,
        }
    }

    async fn remove_tasks(
        &self,
        retention: &Retention,
        turn: Turn,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        if retention.tasks.shortest().is_none() {
            return Ok(());
        }
        let referenced = self.referenced_tasks(retention).await?;
        for state in ENDED {
            let Some(before) = self.cutoff(&retention.tasks, state).await? else {
                continue;
            };
            let mut after = 0;
            while let Some((old, last)) = self.old_tasks(state, before, after).await? {
                after = last;
                let free = self.not_needed(&old, &referenced).await?;
                removed.due.kept += (old.len() - free.len()) as u64;
                for batch in batches(&free) {
                    if !self.goes_on(turn).await {
                        return Ok(());
                    }
                    let begin = Instant::now();
                    let ids = ids_json(batch);
                    let (tasks, files) = self.writer().write(RemoveTasks { ids, before }).await?;
                    removed.due.tasks += tasks;
                    self.remove_content(files, removed).await;
                    tokio::time::sleep(begin.elapsed().max(BREATH)).await;
                }
            }
        }
        Ok(())
    }

    async fn remove_files(
        &self,
        retention: &Retention,
        turn: Turn,
        removed: &mut Removed,
    ) -> Result<(), StoreError> {
        if retention.files.shortest().is_none() {
            return Ok(());
        }
        let referenced = self.referenced_tasks(retention).await?;
        let mut after = 0;
        while let Some((old, last)) = self.old_files(retention, after).await? {
            after = last;
            for batch in batches(&self.not_needed(&old, &referenced).await?) {
                if !self.goes_on(turn).await {
                    return Ok(());
                }
                let begin = Instant::now();
                let files = self
                    .writer()
                    .write(RemoveFiles {
                        tasks: batch.iter().map(|old| old.id).collect(),
                        process: self.process().to_owned(),
                        token: token(),
                    })
                    .await?;
                self.remove_content(files, removed).await;
                tokio::time::sleep(begin.elapsed().max(BREATH)).await;
            }
        }
        Ok(())
    }

    /// Their rows are gone; what stays is found by the sweep.
    async fn remove_content(&self, files: Vec<Content>, removed: &mut Removed) {
        removed.due.files += files.len() as u64;
        removed.due.bytes += files.iter().map(|file| file.size).sum::<u64>();
        let store = self.files().clone();
        let removing = blocking(move || {
            let mut first = None;
            for file in files {
                if let Some(key) = &file.key
                    && let Err(error) = store.remove(key)
                {
                    first.get_or_insert(error);
                }
            }
            Ok(first)
        });
        match removing.await {
            Ok(Some(error)) | Err(error) => removed.failed("content of removed files", &error),
            Ok(None) => {}
        }
    }
}

impl Removed {
    fn failed(&mut self, what: &str, error: &StoreError) {
        let mut text = format!("{what}: {error}");
        // What the system said is the reason that helps.
        let mut cause: &dyn std::error::Error = error;
        while let Some(source) = cause.source() {
            text.push_str(&format!(": {source}"));
            cause = source;
        }
        self.errors.push(text);
    }
}

/// As many as one write removes.
fn batches(old: &[Old]) -> impl Iterator<Item = &[Old]> {
    let mut cost = 0;
    let mut count = 0;
    old.chunk_by(move |one, _| {
        cost += one.cost;
        count += 1;
        let goes_on = count < BATCH && cost < BATCH_BYTES;
        if !goes_on {
            (cost, count) = (0, 0);
        }
        goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_neither_too_many_tasks_nor_too_much_text() {
        let old = |id, cost| Old { id, cost };
        let many: Vec<_> = (0..120).map(|id| old(id, 1)).collect();
        let sizes: Vec<_> = batches(&many).map(<[Old]>::len).collect();
        assert_eq!(sizes, [50, 50, 20]);
        let large: Vec<_> = (0..5).map(|id| old(id, 3 * 1024 * 1024)).collect();
        let sizes: Vec<_> = batches(&large).map(<[Old]>::len).collect();
        assert_eq!(sizes, [2, 2, 1]);
    }
}
