//! All sessions of a process. `warm`: kernels for them, some of which wait.

mod warm;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use runner_core::module::Confinement;
use runner_host::Guests;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::{Face, SessionsConfig};
use crate::driver::Driver;
use crate::environment;
use crate::error::SessionError;
use crate::kernel::Kernel;
use crate::kernelspecs::{KERNELSPEC, Kernelspecs};
use crate::log::Log;
use crate::meters::Meters;
use crate::session::{Execution, Session};
use crate::tasks::SessionTasks;
use crate::zygote::Current;

/// How long nothing is started under the id of a session that was ended on purpose: its clients try to come back.
pub const TOMB: Duration = Duration::from_secs(600);
/// Ids of such sessions.
const MAX_TOMBS: usize = 10_000;
/// Who has a session and what kernels it has, beside its log.
const OWNER: &str = "session.json";

/// All sessions of a process. Clones share them.
#[derive(Debug, Clone)]
pub struct Sessions(pub(crate) Arc<Shared>);

/// What is wished of a new session.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    /// The name of its kernelspec; the default one where none is named.
    pub spec: Option<String>,
    /// Variables of its kernels.
    pub environment: HashMap<String, String>,
    /// Whose it will be.
    pub owner: Option<Arc<str>>,
    /// With whom it is counted.
    pub client: String,
    /// With what else it is counted, such as the page that wants it.
    pub group: Option<String>,
    /// How long it lives without messages, if that is less than any may.
    pub idle: Option<Duration>,
    /// The URL by which its client knows the runner, without a slash at the end.
    pub base_url: String,
    /// Sessions that this client has in other processes.
    pub elsewhere: usize,
    /// Those of its group.
    pub group_elsewhere: usize,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: Arc<SessionsConfig>,
    specs: Arc<Kernelspecs>,
    current: Current,
    /// Kernels that nobody has yet.
    warm: Mutex<Vec<Kernel>>,
    /// Some of them were taken.
    refill: Notify,
    table: Mutex<Table>,
    pub(crate) tasks: Arc<dyn SessionTasks>,
    /// Counts sessions that began or ended.
    changes: watch::Sender<u64>,
    pub(crate) meters: Meters,
}

#[derive(Debug, Default)]
struct Table {
    is_closed: bool,
    sessions: HashMap<Uuid, Arc<Session>>,
    tombs: VecDeque<(Uuid, Instant)>,
}

impl Table {
    fn is_tomb(&self, id: Uuid) -> bool {
        let is_it = |(tomb, at): &(Uuid, Instant)| *tomb == id && at.elapsed() < TOMB;
        self.tombs.iter().any(is_it)
    }
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Owner {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
    /// Its kernelspec, if it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spec: Option<String>,
}

impl Sessions {
    /// None yet, but those whose logs lie in the folder: they have no kernel until somebody says something. The
    /// second value is to be told where guests are started, as soon as that is known.
    pub fn new(
        config: SessionsConfig,
        tasks: Arc<dyn SessionTasks>,
    ) -> (Self, oneshot::Sender<Guests>) {
        let (found, coming) = oneshot::channel();
        let config = Arc::new(config);
        let specs = Arc::new(Kernelspecs::find(&config));
        let meters = Meters::new(config.face);
        let shared = Arc::new(Shared {
            current: Current::new(coming, Arc::clone(&config), Arc::clone(&specs)),
            config,
            specs,
            warm: Mutex::default(),
            refill: Notify::new(),
            table: Mutex::default(),
            tasks,
            changes: watch::Sender::new(0),
            meters,
        });
        let sessions = Self(Arc::clone(&shared));
        sessions.restore();
        if shared.config.face == Face::SageCell {
            // Strangers do not wait until everything is loaded.
            shared.refill.notify_one();
        }
        tokio::spawn(warm::refill(shared));
        (sessions, found)
    }

    /// Settings.
    pub fn config(&self) -> &SessionsConfig {
        &self.0.config
    }

    /// Who runs plugins for them.
    pub fn tasks(&self) -> &Arc<dyn SessionTasks> {
        &self.0.tasks
    }

    /// Which kernels there may be.
    pub fn kernelspecs(&self) -> &Kernelspecs {
        &self.0.specs
    }

    /// Begins a session, with its kernel.
    ///
    /// # Errors
    /// There is no such kernelspec, too many sessions live, or no kernel can be started.
    pub async fn create(&self, wish: Wish) -> Result<Arc<Session>, SessionError> {
        self.0.specs.get(wish.spec.as_deref())?;
        environment::check(&wish.environment)?;
        let environment = wish.environment.clone();
        let (session, inbox) = self.0.add(Uuid::new_v4(), wish)?;
        let shared = Arc::clone(&self.0);
        let made = Arc::clone(&session);
        // A client that leaves now must not leave half a session.
        let started = tokio::spawn(async move {
            let kernel = shared.kernel(&made.spec, &environment, None).await;
            let kernel = kernel.inspect_err(|_| shared.forget(&made))?;
            tokio::spawn(Driver::new(made, shared, inbox, Some(kernel)).run());
            Ok::<(), SessionError>(())
        });
        match started.await {
            Ok(Ok(())) => Ok(session),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(SessionError::Start(error.to_string())),
        }
    }

    /// The session of this id. One that nobody knows begins, without a kernel until somebody says something; unless
    /// one of this id was ended on purpose.
    ///
    /// # Errors
    /// It was ended, or too many sessions live.
    pub fn open(&self, id: Uuid, wish: Wish) -> Result<Arc<Session>, SessionError> {
        if let Some(session) = self.get(id) {
            return Ok(session);
        }
        match self.0.add(id, wish) {
            Ok((session, inbox)) => {
                let driver = Driver::new(Arc::clone(&session), Arc::clone(&self.0), inbox, None);
                tokio::spawn(driver.run());
                Ok(session)
            }
            // Somebody else was faster.
            Err(error) => self.get(id).ok_or(error),
        }
    }

    /// The session of this id, if it lives.
    pub fn get(&self, id: Uuid) -> Option<Arc<Session>> {
        self.0.lock().sessions.get(&id).cloned()
    }

    /// All that live, the oldest first.
    pub fn list(&self) -> Vec<Arc<Session>> {
        let mut all: Vec<_> = self.0.lock().sessions.values().cloned().collect();
        all.sort_by_key(|session| (session.began, session.id));
        all
    }

    /// Ends a session and removes all of it.
    ///
    /// # Errors
    /// There is none of this id.
    pub async fn remove(&self, id: Uuid) -> Result<(), SessionError> {
        let session = self.get(id).ok_or(SessionError::Unknown(id))?;
        {
            let mut table = self.0.lock();
            while table.tombs.len() >= MAX_TOMBS
                || table
                    .tombs
                    .front()
                    .is_some_and(|(_, at)| at.elapsed() > TOMB)
            {
                table.tombs.pop_front();
            }
            table.tombs.push_back((id, Instant::now()));
        }
        session.end("somebody ended it", false).await;
        Ok(())
    }

    /// Whether a session of this id was ended on purpose a while ago, so that none of it begins.
    pub fn was_removed(&self, id: Uuid) -> bool {
        self.0.lock().is_tomb(id)
    }

    /// Ends a session that another process has by now; what it has here is removed.
    pub async fn give_up(&self, id: Uuid) {
        if let Some(session) = self.get(id) {
            session.end("another process has it", false).await;
        }
    }

    /// How many more may begin.
    pub fn room(&self) -> usize {
        let table = self.0.lock();
        match table.is_closed {
            true => 0,
            false => self.0.config.most.saturating_sub(table.sessions.len()),
        }
    }

    /// How many each client has, where that is limited.
    pub fn clients(&self) -> HashMap<String, usize> {
        let mut all = HashMap::new();
        if self.0.config.most_of_client > 0 {
            for session in self.0.lock().sessions.values() {
                *all.entry(session.client.clone()).or_default() += 1;
            }
        }
        all
    }

    /// How many each group has, where that is limited.
    pub fn groups(&self) -> HashMap<String, usize> {
        let mut all = HashMap::new();
        if self.0.config.most_of_group > 0 {
            let table = self.0.lock();
            for group in table.sessions.values().filter_map(|one| one.group.clone()) {
                *all.entry(group).or_default() += 1;
            }
        }
        all
    }

    /// Changes whenever a session began or ended.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// What kernels answer to `kernel_info_request`; starts the zygote if there is none.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn kernel_info(&self) -> Result<Map<String, Value>, SessionError> {
        let zygote = self.0.current.get().await?;
        self.0.refill.notify_one();
        Ok(zygote.info().clone())
    }

    /// How kernels are confined, if there is a zygote.
    pub fn confinement(&self) -> Option<Confinement> {
        let zygote = self.0.current.living()?;
        Some(zygote.confinement().clone())
    }

    /// Ends all sessions; their logs stay.
    pub async fn close(&self) {
        self.0.lock().is_closed = true;
        let endings = self
            .list()
            .into_iter()
            .map(|session| tokio::spawn(async move { session.end("the runner ends", true).await }));
        for ending in endings.collect::<Vec<_>>() {
            let _ = ending.await;
        }
        self.0.warm().clear();
        self.0.current.end().await;
    }

    /// Finds the logs of sessions of an earlier start.
    fn restore(&self) {
        if self.0.config.face == Face::SageCell {
            let _ = std::fs::remove_dir_all(&self.0.config.folder);
            return;
        }
        let entries = std::fs::read_dir(&self.0.config.folder);
        for entry in entries.into_iter().flatten().flatten() {
            let folder = entry.path();
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| Uuid::try_parse(name).ok());
            let log = Log::open(&folder, self.0.config.log);
            let (Some(id), Ok(log)) = (id, log) else {
                let _ = std::fs::remove_dir_all(&folder);
                continue;
            };
            let known = owner_of(&folder).unwrap_or_default();
            let wish = Wish {
                spec: known.spec,
                owner: known.owner.map(Into::into),
                ..Wish::default()
            };
            // More than there may be now have no log any more.
            let Ok((session, inbox)) = self.0.add_with(id, wish, log) else {
                let _ = std::fs::remove_dir_all(&folder);
                continue;
            };
            {
                let mut state = session.lock();
                state.execution = Execution::Dead;
                state.was_attached = true;
            }
            tokio::spawn(Driver::new(session, Arc::clone(&self.0), inbox, None).run());
        }
    }
}

impl Shared {
    fn add(
        &self,
        id: Uuid,
        wish: Wish,
    ) -> Result<(Arc<Session>, crate::session::Inbox), SessionError> {
        let log = Log::new(&self.folder(id), self.config.log);
        let known = Owner {
            owner: wish.owner.as_deref().map(str::to_owned),
            spec: wish.spec.clone().filter(|spec| spec != KERNELSPEC),
        };
        let added = self.add_with(id, wish, log)?;
        if known != Owner::default() {
            let folder = self.folder(id);
            let written = std::fs::create_dir_all(&folder).and_then(|()| {
                let text = serde_json::to_vec(&known)?;
                std::fs::write(folder.join(OWNER), text)
            });
            if let Err(error) = written {
                self.forget(&added.0);
                return Err(SessionError::file("write", folder.join(OWNER))(error));
            }
        }
        Ok(added)
    }

    fn add_with(
        &self,
        id: Uuid,
        wish: Wish,
        log: Log,
    ) -> Result<(Arc<Session>, crate::session::Inbox), SessionError> {
        let config = &self.config;
        let mut table = self.lock();
        if table.is_closed {
            return Err(SessionError::Start("the runner ends".to_owned()));
        }
        if table.sessions.contains_key(&id) || table.is_tomb(id) {
            return Err(SessionError::Unknown(id));
        }
        if table.sessions.len() >= config.most {
            let text = format!(
                "{} sessions live, which is as many as may (SESSION_MAX); try again in a moment",
                config.most
            );
            return Err(SessionError::Full(config.face.named(&text).into_owned()));
        }
        let count = |is_counted: &dyn Fn(&Session) -> bool| {
            let all = table.sessions.values();
            all.filter(|session| is_counted(session)).count()
        };
        if config.most_of_client > 0 {
            let own = count(&|session| session.client == wish.client) + wish.elsewhere;
            if own >= config.most_of_client {
                let text = format!(
                    "you have {own} sessions, which is as many as may be (SESSION_MAX_PER_CLIENT); end one"
                );
                return Err(SessionError::Full(config.face.named(&text).into_owned()));
            }
        }
        if config.most_of_group > 0 && wish.group.is_some() {
            let own = count(&|session| session.group == wish.group) + wish.group_elsewhere;
            if own >= config.most_of_group {
                return Err(SessionError::GroupFull(format!(
                    "this page has {own} kernels, which is as many as it may have; end one"
                )));
            }
        }
        let idle = wish.idle.map_or(config.idle, |idle| idle.min(config.idle));
        let (session, inbox) = Session::new(id, wish, idle, self.folder(id), log);
        table.sessions.insert(id, Arc::clone(&session));
        self.count(&table);
        self.changes.send_modify(|changes| *changes += 1);
        Ok((session, inbox))
    }

    fn folder(&self, id: Uuid) -> PathBuf {
        self.config.folder.join(id.to_string())
    }

    /// Nobody finds the session any more.
    pub(crate) fn forget(&self, session: &Arc<Session>) {
        let mut table = self.lock();
        let known = table.sessions.get(&session.id);
        if known.is_some_and(|known| Arc::ptr_eq(known, session)) {
            table.sessions.remove(&session.id);
        }
        self.count(&table);
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn count(&self, table: &Table) {
        let count = u32::try_from(table.sessions.len()).unwrap_or(u32::MAX);
        self.meters.living.set(f64::from(count));
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn owner_of(folder: &Path) -> Option<Owner> {
    let text = std::fs::read(folder.join(OWNER)).ok()?;
    serde_json::from_slice(&text).ok()
}
