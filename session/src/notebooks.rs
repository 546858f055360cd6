//! Jupyter's own sessions: names, mostly paths of notebooks, for kernels. They live as long as their kernel does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use uuid::Uuid;

/// A name for a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notebook {
    /// Its id.
    pub id: Uuid,
    /// Mostly the path of a notebook.
    pub path: String,
    /// For people.
    pub name: String,
    /// `notebook`, `console` or whatever else the client says.
    pub kind: String,
    /// The kernel, which is a session here.
    pub kernel: Uuid,
}

/// What is wished of a name.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NotebookWish {
    /// Mostly the path of a notebook.
    pub path: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Its kind.
    #[serde(rename = "type")]
    pub kind: Option<String>,
}

/// All names. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Notebooks(Arc<Mutex<BTreeMap<Uuid, Notebook>>>);

impl Notebooks {
    /// Gives a kernel a name.
    pub fn add(&self, kernel: Uuid, wish: NotebookWish) -> Notebook {
        let made = Notebook {
            id: Uuid::new_v4(),
            path: wish.path.unwrap_or_default(),
            name: wish.name.unwrap_or_default(),
            kind: wish.kind.unwrap_or_else(|| "notebook".to_owned()),
            kernel,
        };
        self.lock().insert(made.id, made.clone());
        made
    }

    /// All whose kernels live.
    pub fn list(&self, lives: impl Fn(Uuid) -> bool) -> Vec<Notebook> {
        let mut all = self.lock();
        all.retain(|_, one| lives(one.kernel));
        all.values().cloned().collect()
    }

    /// One of a kind by its path.
    pub fn find(&self, kind: &str, path: &str) -> Option<Notebook> {
        let all = self.lock();
        let mut all = all.values();
        all.find(|one| one.kind == kind && one.path == path)
            .cloned()
    }

    /// One of them.
    pub fn get(&self, id: Uuid) -> Option<Notebook> {
        self.lock().get(&id).cloned()
    }

    /// Changes one of them.
    pub fn change(&self, id: Uuid, wish: NotebookWish, kernel: Option<Uuid>) -> Option<Notebook> {
        let mut all = self.lock();
        let one = all.get_mut(&id)?;
        if let Some(path) = wish.path {
            one.path = path;
        }
        if let Some(name) = wish.name {
            one.name = name;
        }
        if let Some(kind) = wish.kind {
            one.kind = kind;
        }
        if let Some(kernel) = kernel {
            one.kernel = kernel;
        }
        Some(one.clone())
    }

    /// Removes one of them.
    pub fn remove(&self, id: Uuid) -> Option<Notebook> {
        self.lock().remove(&id)
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Notebook>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
