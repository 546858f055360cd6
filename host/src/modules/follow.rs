//! Does what administrators decided elsewhere, or while this process was away.
//!
//! What is wanted is compared with what is there, again and again: when the ledger says that something changed, when
//! something changed here, and now and then. So nothing depends on how many changes were missed, or in which order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use runner_core::module::ModuleState;
use runner_core::wanted::{Wanted, WantedState};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Modules;
use super::change::{ChangeError, LoadRequest, STOPPED, blocking};
use super::decide::By;
use super::in_progress::Verb;
use super::loading::is_kept;
use super::module::Module;
use super::replace::Newer;
use super::target::find;

/// Between two looks at the ledger: for when a hint got lost.
const LOOK: Duration = Duration::from_secs(15);
/// After another change of the module was in the way.
const BUSY: Duration = Duration::from_millis(500);
/// After a kept module could not be loaded; doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The longest where its files could not be had: what is away comes back.
const LONGEST_AWAY: Duration = Duration::from_secs(60);
/// How often it is said that removed modules lie in plugin folders.
const TELL: Duration = Duration::from_secs(24 * 3600);

/// What is to be done with a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Load what is kept, in place of what there is.
    Keep,
    /// Load what lies in the plugin folders, if something does.
    Find,
    /// Load what lies in the plugin folders anew.
    Reload,
    Start,
    Stop,
    Remove,
    /// Remove what was kept, and load what lies in the plugin folders, if something does.
    GiveBack,
}

impl Step {
    /// Whether it ends a load that is in progress.
    fn is_end(self) -> bool {
        matches!(self, Self::Stop | Self::Remove | Self::GiveBack)
    }
}

/// What was tried of what is wanted of a module.
struct Tried {
    /// What was wanted then.
    generation: i64,
    times: u32,
    /// When it may be tried again; `None`: when something else is wanted.
    again: Option<Instant>,
}

/// A step that was taken.
struct Done {
    name: String,
    generation: i64,
    step: Step,
    outcome: Result<(), ChangeError>,
}

struct Follower {
    modules: Arc<Modules>,
    tried: BTreeMap<String, Tried>,
    /// The generation that each module is being brought to.
    at_work: BTreeMap<String, i64>,
    steps: JoinSet<Done>,
    /// Whether it was said that the ledger cannot be read.
    is_held_up: bool,
}

impl Modules {
    /// Follows what is wanted, as soon as all modules were loaded. For one caller; it never ends.
    pub async fn follow(self: Arc<Self>) {
        self.settled().await;
        let mut changes = self.changes();
        let mut follower = Follower {
            modules: Arc::clone(&self),
            tried: BTreeMap::new(),
            at_work: BTreeMap::new(),
            steps: JoinSet::new(),
            is_held_up: false,
        };
        let mut next_look = Instant::now();
        let mut next_told = Instant::now();
        loop {
            if next_look <= Instant::now() {
                follower.look().await;
                next_look = Instant::now() + LOOK;
            }
            if next_told <= Instant::now() {
                self.tell_put_aside().await;
                next_told = Instant::now() + TELL;
            }
            // What changes from here on is seen in the next round.
            changes.mark_unchanged();
            let again = follower.work();
            tokio::select! {
                () = self.ledger.changed() => next_look = Instant::now(),
                () = self.look.notified() => next_look = Instant::now(),
                () = tokio::time::sleep_until(next_look.min(again.unwrap_or(next_look))) => {}
                changed = changes.changed() => if changed.is_err() { return },
                Some(done) = follower.steps.join_next() => follower.done(done),
            }
        }
    }
}

impl Follower {
    async fn look(&mut self) {
        let looked = self.modules.look_at_wanted().await;
        if let (Err(error), false) = (&looked, self.is_held_up) {
            tracing::error!("{error}; what is loaded stays as it is until then");
        }
        if self.is_held_up && looked.is_ok() {
            tracing::info!("what is wanted of modules can be read again");
            // What hung on the same outage need not wait any longer.
            for tried in self.tried.values_mut() {
                tried.again = tried.again.map(|_| Instant::now());
            }
        }
        self.is_held_up = looked.is_err();
    }

    /// Begins what is to be done. Answers when something is to be tried again.
    fn work(&mut self) -> Option<Instant> {
        let wanted = self.modules.wanted();
        let table = self.modules.table();
        let loaded = table.modules.iter().map(|module| (module.name(), module));
        let loaded: BTreeMap<String, &Arc<Module>> = loaded.collect();
        let mut names: BTreeSet<&String> = loaded.keys().collect();
        names.extend(wanted.modules.iter().map(|wanted| &wanted.name));
        let mut next: Option<Instant> = None;
        for name in names {
            let wanted = wanted.of(name);
            let Some(step) = step(&wanted, loaded.get(name).map(|module| &***module)) else {
                continue;
            };
            match self.tried.get(name) {
                Some(tried) if tried.generation == wanted.generation => match tried.again {
                    None => continue,
                    Some(again) if again > Instant::now() => {
                        next = Some(next.map_or(again, |next| next.min(again)));
                        continue;
                    }
                    Some(_) => {}
                },
                _ => {}
            }
            let is_free = match self.at_work.get(name) {
                Some(generation) => step.is_end() && wanted.generation > *generation,
                // An administrator is at it, and everything is looked at again when that has its end.
                None => !self.modules.in_progress.is_changing(name),
            };
            if is_free {
                self.begin(step, wanted);
            } else if !self.at_work.contains_key(name) {
                next = Some(Instant::now() + BUSY);
            }
        }
        if self.at_work.is_empty() {
            self.tell(wanted.generation);
        }
        next
    }

    /// Says how far this process is.
    fn tell(&self, generation: i64) {
        let is_new = self.modules.followed.send_if_modified(|followed| {
            let is_new = *followed != generation;
            *followed = generation;
            is_new
        });
        if is_new {
            self.modules.changes.send_modify(|count| *count += 1);
        }
    }

    fn begin(&mut self, step: Step, wanted: Wanted) {
        tracing::info!(
            module = wanted.name,
            generation = wanted.generation,
            "follows what is wanted: {step:?}"
        );
        let (name, generation) = (wanted.name.clone(), wanted.generation);
        self.at_work.insert(name.clone(), generation);
        let modules = Arc::clone(&self.modules);
        self.steps.spawn(async move {
            Done {
                name,
                generation,
                step,
                outcome: modules.take_step(step, wanted).await,
            }
        });
    }

    fn done(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let Done {
            name,
            generation,
            step,
            outcome,
        } = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!("following what is wanted of modules failed: {error}");
                // Whose it was is not known; all is looked at again.
                return self.at_work.clear();
            }
        };
        if self.at_work.get(&name) == Some(&generation) {
            self.at_work.remove(&name);
        }
        let Err(error) = outcome else {
            self.tried.remove(&name);
            // Where there was nothing to be found it is not looked for all the time.
            if step == Step::Find {
                let tried = Tried {
                    generation,
                    times: 1,
                    again: None,
                };
                self.tried.insert(name, tried);
            }
            return;
        };
        let known = self.tried.remove(&name);
        let times = known
            .filter(|tried| tried.generation == generation)
            .map_or(0, |tried| tried.times);
        let is_kept = self.modules.known().of(&name).kept.is_some();
        let (times, pause) = match error {
            ChangeError::Conflict(_) => (times, Some(BUSY)),
            // A plugin folder is changed by hand, which nobody is told.
            _ if !is_kept => (times + 1, None),
            _ => {
                let pause = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times));
                let longest = match error {
                    ChangeError::Unavailable { .. } => LONGEST_AWAY,
                    _ => LONGEST_PAUSE,
                };
                (times + 1, Some(pause.min(longest)))
            }
        };
        if !matches!(error, ChangeError::Conflict(_)) {
            tracing::warn!(module = name, "what is wanted was not done: {error}");
        }
        let again = pause.map(|pause| Instant::now() + pause);
        let tried = Tried {
            generation,
            times,
            again,
        };
        self.tried.insert(name, tried);
        // Others are told why.
        self.modules.changes.send_modify(|count| *count += 1);
    }
}

/// What makes of a module what is wanted.
fn step(wanted: &Wanted, module: Option<&Module>) -> Option<Step> {
    let is_wanted_kept = wanted.kept.is_some();
    let Some(module) = module else {
        return match wanted.state {
            WantedState::Running | WantedState::Stopped if is_wanted_kept => Some(Step::Keep),
            WantedState::Running if wanted.generation > 0 => Some(Step::Find),
            _ => None,
        };
    };
    let status = module.status();
    let is_stopped =
        status.state == ModuleState::Exited && status.reason.as_deref() == Some(STOPPED);
    match wanted.state {
        WantedState::Removed => Some(Step::Remove),
        WantedState::Stopped => (!is_stopped).then_some(Step::Stop),
        WantedState::Running => match (is_kept(module), is_wanted_kept) {
            (false, true) => Some(Step::Keep),
            // An administrator is loading it, under a name that it just gave itself; nothing is decided yet.
            (true, false) if status.state == ModuleState::Init => None,
            (true, false) => Some(Step::GiveBack),
            (true, true) if module.loaded() != wanted.loaded => Some(Step::Keep),
            (true, true) => (status.state == ModuleState::Exited).then_some(Step::Keep),
            (false, false) if module.loaded() != wanted.loaded => Some(Step::Reload),
            (false, false) => is_stopped.then_some(Step::Start),
        },
    }
}

impl Modules {
    async fn take_step(self: &Arc<Self>, step: Step, wanted: Wanted) -> Result<(), ChangeError> {
        let name = &wanted.name;
        match step {
            Step::Keep => self.load_kept(&wanted).await,
            Step::Find => self.load_own(&wanted).await,
            Step::Reload => {
                let args = wanted.args.clone();
                let module = self.reload_by(By::Process, name, args, None).await?;
                module.is_loaded_for(wanted.loaded);
                Ok(())
            }
            Step::Start => self.start_by(By::Process, name).await.map(drop),
            Step::Stop => self.stop_by(By::Process, name, None).await.map(drop),
            Step::Remove => self.remove_by(By::Process, name, None).await.map(drop),
            Step::GiveBack => {
                self.remove_by(By::Process, name, None).await?;
                self.load_own(&wanted).await
            }
        }
    }

    /// Loads a module that is kept, in place of what has its name. What is wrong with it is shown.
    async fn load_kept(self: &Arc<Self>, wanted: &Wanted) -> Result<(), ChangeError> {
        let Some(kept) = &wanted.kept else {
            return Ok(());
        };
        let change = self.begin(&wanted.name, Verb::Load)?;
        let candidate = self.kept_candidate(wanted, kept).await;
        let module = self.kept_module(wanted, kept, &candidate, self.tap_of(&wanted.name));
        let older = match self.named(&wanted.name) {
            Ok(older) => older,
            Err(_) => {
                self.replace(|table| table.modules.push(Arc::clone(&module)));
                Arc::clone(&module)
            }
        };
        if wanted.state == WantedState::Stopped {
            module.exit(STOPPED);
            return Ok(());
        }
        let newer = Newer {
            module,
            candidate,
            is_load: true,
            by: By::Process,
        };
        self.replace_by(change, older, newer, None).await.map(drop)
    }

    /// Loads the module of this name from the plugin folders, if there is one: they are each machine's own.
    async fn load_own(self: &Arc<Self>, wanted: &Wanted) -> Result<(), ChangeError> {
        let (config, target) = (self.config.clone(), wanted.name.clone());
        let found = blocking(move || find(&config, &target, None)).await?;
        let Ok(candidate) = found else {
            return Ok(());
        };
        let request = LoadRequest {
            target: candidate.path.display().to_string(),
            name: None,
            args: wanted.args.clone(),
            loader: wanted.loader.clone(),
        };
        let module = self.load_new(request, By::Process).await?;
        module.is_loaded_for(wanted.loaded);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use runner_core::wanted::Kept;

    use super::*;

    fn wanted(state: WantedState, is_kept: bool, generation: i64) -> Wanted {
        let kept = || Kept {
            digest: String::new(),
            key: String::new(),
            size: 0,
            path: String::new(),
        };
        Wanted {
            state,
            generation,
            loaded: generation,
            kept: is_kept.then(kept),
            ..Wanted::of_folder("m")
        }
    }

    #[test]
    fn what_is_not_there_is_loaded_unless_nobody_wants_it() {
        use WantedState::{Removed, Running, Stopped};
        for (state, is_kept, generation, expected) in [
            (Running, true, 1, Some(Step::Keep)),
            (Stopped, true, 1, Some(Step::Keep)),
            (Running, false, 1, Some(Step::Find)),
            // What lies in a folder and was never decided about was loaded at the start, if it is there.
            (Running, false, 0, None),
            (Stopped, false, 1, None),
            (Removed, false, 1, None),
        ] {
            let wanted = wanted(state, is_kept, generation);
            assert_eq!(step(&wanted, None), expected, "{wanted:?}");
        }
    }
}
