//! Fires schedules that are due. When that is stands in SQL, and SQL decides which process does it.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::stream::{FuturesUnordered, StreamExt};
use runner_core::module::ModuleState;
use runner_core::schedule::{MAX_NAME, NewSchedule, Plan, Schedule, Timing, plan};
use runner_core::task::{Dispatch, NewTask};
use runner_host::Provided;
use runner_host::modules::Table;
use runner_queue::{Offer, Watch};
use runner_store::{Declared, Fire, Fired, StoreError};

use crate::Shared;

/// The longest sleep: for when a hint got lost.
const RECHECK: Duration = Duration::from_secs(15);
/// Where a plugin is missing here, another worker may have it. Once a firing is late by this many milliseconds, none has.
const LATE_MS: i64 = 30_000;
/// Meanwhile this one looks again.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// After SQL could not be read or written.
const PAUSE: Duration = Duration::from_secs(5);

/// Fires until the worker stops. Sleeps until something is due.
pub(crate) async fn fire(shared: Arc<Shared>, base_url: String) {
    let scheduler = Scheduler {
        shared: Arc::clone(&shared),
        base_url,
    };
    tokio::select! {
        () = scheduler.work() => {}
        () = shared.abort.cancelled() => {}
    }
}

struct Scheduler {
    shared: Arc<Shared>,
    base_url: String,
}

impl Scheduler {
    async fn work(self) {
        let tools = &self.shared.tools;
        tools.modules.ready().await;
        let mut declared: Option<Arc<Table>> = None;
        let mut is_held_up = false;
        loop {
            let sleep = match self.round(&mut declared).await {
                Ok(sleep) => {
                    is_held_up = false;
                    sleep
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    if !is_held_up {
                        tracing::error!("schedules are held up: {error}");
                    }
                    is_held_up = true;
                    Sleep {
                        until: PAUSE,
                        watches: Vec::new(),
                    }
                }
            };
            self.sleep(sleep).await;
        }
    }

    /// Fires all that is due.
    async fn round(&self, declared: &mut Option<Arc<Table>>) -> Result<Sleep, StoreError> {
        let Shared { tools, .. } = &*self.shared;
        let table = tools.modules.table();
        if declared
            .as_ref()
            .is_none_or(|old| !Arc::ptr_eq(old, &table))
        {
            self.declare(&table).await?;
            *declared = Some(Arc::clone(&table));
        }
        let mut least = Duration::ZERO;
        loop {
            // Listening begins before looking, so that no end of a task falls in between.
            let awaited = tools.store.tasks_that_schedules_wait_for().await?;
            let watches = awaited.iter().map(|task| tools.events.watch(*task));
            let watches = watches.collect();
            let (due, now) = tools.store.due_schedules().await?;
            let mut fired = 0;
            for schedule in &due {
                if is_for_others(schedule, now, &table) {
                    least = LOOK_AGAIN;
                    continue;
                }
                match self.fire_one(schedule, now, &table).await {
                    Ok(is_fired) => fired += u32::from(is_fired),
                    // It must not hold up the others.
                    Err(error) if error.is_permanent() => {
                        tracing::error!(schedule = %schedule.what.name, "cannot be fired: {error}");
                        least = LOOK_AGAIN;
                    }
                    Err(error) => return Err(error),
                }
            }
            // Where another process was faster there may be something else by now.
            if fired > 0 {
                continue;
            }
            let next = tools.store.next_schedule_in().await?;
            let until = next.map_or(RECHECK, |next| next.min(RECHECK)).max(least);
            return Ok(Sleep { until, watches });
        }
    }

    async fn sleep(&self, mut sleep: Sleep) {
        let changes = sleep
            .watches
            .iter_mut()
            .map(|watch| watch.changed().boxed());
        let mut changes: FuturesUnordered<_> = changes.collect();
        let ended = async {
            match changes.is_empty() {
                true => std::future::pending().await,
                false => changes.next().await,
            }
        };
        // A millisecond more: what is due then is due by the clock of the database, too.
        let until = sleep.until + Duration::from_millis(1);
        tokio::select! {
            () = tokio::time::sleep(until) => {}
            _ = ended => {}
            () = self.shared.tools.queue.schedules() => {}
        }
    }

    /// Whether it was fired here, or what was due was left out.
    async fn fire_one(
        &self,
        schedule: &Schedule,
        now: i64,
        table: &Table,
    ) -> Result<bool, StoreError> {
        let what = &schedule.what;
        let timing = Timing::new(&what.rule);
        let plan = planned(schedule, timing.as_ref().ok(), now);
        let task = match &timing {
            Ok(_) => new_task(what, table, &self.base_url),
            Err(error) => Err(error.to_string()),
        };
        let fire = Fire {
            id: schedule.id,
            version: schedule.version,
            firings: plan.firings,
            due_at: plan.due_at,
            next_at: plan.next_at,
            task,
            note: plan.note,
            by_hand: false,
        };
        let dispatch = what.dispatch();
        let tools = &self.shared.tools;
        // Whatever becomes of this future, what was committed is announced.
        let (store, queue, events) = (
            tools.store.clone(),
            tools.queue.clone(),
            tools.events.clone(),
        );
        let firing = tokio::spawn(async move {
            let fired = store.fire_schedule(fire).await?;
            if let Fired::Done {
                tasks, cancelled, ..
            } = &fired
            {
                queue.tasks_ended(cancelled, &events);
                queue.push_all(tasks.iter().map(|task| Offer::first(*task, &dispatch)));
            }
            Ok::<_, StoreError>(fired)
        });
        let fired = match firing.await {
            Ok(fired) => fired?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(StoreError::Closed),
        };
        let Fired::Done { tasks, said, .. } = fired else {
            return Ok(false);
        };
        tracing::debug!(schedule = %what.name, ?tasks, "a schedule was fired");
        if let Some(said) = said {
            tracing::warn!(schedule = %what.name, "{said}");
        }
        Ok(true)
    }

    /// Makes the schedules of modules those that they declare now.
    async fn declare(&self, table: &Table) -> Result<(), StoreError> {
        let tools = &self.shared.tools;
        let now = tools.store.database_now().await?;
        let (mut loaded, mut present) = (Vec::new(), Vec::new());
        for module in &table.modules {
            let status = module.status();
            if status.state == ModuleState::Running {
                loaded.push(status.name.clone());
            }
            present.push(status.name);
        }
        let mut all = Vec::new();
        for provided in table.plugins() {
            all.extend(declared_by(provided, now, &self.base_url));
        }
        let changed = tools.store.declare_schedules(loaded, present, all).await?;
        if changed > 0 {
            tracing::info!("{changed} schedules of modules were made, changed or removed");
        }
        Ok(())
    }
}

/// How long nothing is to be done, and what may end it early.
struct Sleep {
    until: Duration,
    watches: Vec<Watch>,
}

/// Whether another worker may have the plugin, and this one has not.
fn is_for_others(schedule: &Schedule, now: i64, table: &Table) -> bool {
    let plugin = &schedule.what.plugin;
    let is_here = table
        .plugin(plugin)
        .or_else(|| table.newest(plugin))
        .is_some();
    let since = schedule.next_at.unwrap_or(now).min(now);
    !is_here && now - since < LATE_MS
}

fn planned(schedule: &Schedule, timing: Option<&Timing>, now: i64) -> Plan {
    let next = schedule.next_at.filter(|next| *next <= now);
    match (timing, next.map(|next| schedule.due_at.unwrap_or(next))) {
        (Some(timing), Some(due)) => plan(timing, schedule.what.missed, due, now, schedule.id),
        // It waits for a task, and is not due.
        (Some(_), None) => Plan {
            firings: 0,
            due_at: schedule.due_at,
            next_at: schedule.next_at,
            note: None,
        },
        // A rule that cannot be read any more is never due.
        (None, _) => Plan {
            firings: 1,
            due_at: None,
            next_at: None,
            note: None,
        },
    }
}

/// The task of a schedule, or why it cannot be made.
fn new_task(what: &NewSchedule, table: &Table, base_url: &str) -> Result<NewTask, String> {
    let found = table
        .plugin(&what.plugin)
        .or_else(|| table.newest(&what.plugin));
    let provided = found.ok_or_else(|| format!("there is no plugin {:?}", what.plugin))?;
    what.task(&provided.plugin, provided.module.status().sha256, base_url)
}

/// The schedules that a plugin declares.
fn declared_by(provided: &Provided, now: i64, base_url: &str) -> Vec<Declared> {
    let plugin = &provided.plugin;
    let owner = provided.module.status().name;
    let priority = provided.module.run_rules().priority;
    let declared = plugin.schedules.iter().filter_map(|one| {
        let mut rule = one.rule.clone();
        rule.anchor = now;
        let name = format!("{owner}/{}/{}", plugin.identity.name(), one.name);
        if name.chars().count() > MAX_NAME {
            tracing::warn!(
                "the schedule {name:?} is left out: its name has more than {MAX_NAME} characters"
            );
            return None;
        }
        let timing = Timing::new(&rule).ok()?;
        let due_at = timing.next_after(now);
        Some(Declared {
            owner: owner.clone(),
            due_at,
            next_at: due_at.map(|due| timing.fire_at(due, now)),
            what: NewSchedule {
                name,
                plugin: plugin.identifier.clone(),
                parameters: one.parameters.clone(),
                rule,
                overlap: one.overlap,
                missed: one.missed,
                enabled: true,
                dispatch: Dispatch {
                    priority,
                    ..Dispatch::default()
                },
                labels: Vec::new(),
                base_url: base_url.to_owned(),
            },
        })
    });
    declared.collect()
}
