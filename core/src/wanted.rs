//! What administrators want of modules. It stands in SQL; all processes that work together follow it.
//!
//! A module of a plugin folder is each machine's own: what is wanted of it is about whatever lies there under its name.
//! A module that an administrator loaded is **kept**: its files are in the file store, and each process loads the same.
//! Where both have one name, the kept one is loaded.

use serde_json::Value;

/// What a module is to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedState {
    /// RUNNING.
    Running,
    /// Known, and EXITED.
    Stopped,
    /// Not there, though it may lie in a plugin folder.
    Removed,
}

impl WantedState {
    /// The word in SQL.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Removed => "removed",
        }
    }

    /// From the word in SQL.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Running, Self::Stopped, Self::Removed]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// A module whose files are in the file store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// SHA-256 of the module, hexadecimal.
    pub digest: String,
    /// Where its package is in the file store.
    pub key: String,
    /// Bytes of the package.
    pub size: u64,
    /// Where it lay on the machine that was told to load it.
    pub path: String,
}

/// What is wanted of one module.
#[derive(Debug, Clone, PartialEq)]
pub struct Wanted {
    /// Its name.
    pub name: String,
    /// The generation that changed this last.
    pub generation: i64,
    /// The generation that wanted it loaded anew: by a load or a reload. 0 if none did.
    pub loaded: i64,
    /// What it is to be.
    pub state: WantedState,
    /// `None`: the one in the plugin folders of each machine.
    pub kept: Option<Kept>,
    /// Instead of the arguments in its manifest.
    pub args: Option<Vec<Value>>,
    /// Instead of the loader that would be chosen.
    pub loader: Option<String>,
}

impl Wanted {
    /// What holds of a module of a plugin folder of which nobody decided anything.
    pub fn of_folder(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            generation: 0,
            loaded: 0,
            state: WantedState::Running,
            kept: None,
            args: None,
            loader: None,
        }
    }
}

/// What is wanted of all modules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WantedModules {
    /// Grows with each change.
    pub generation: i64,
    /// Those of which something is wanted; for each name at most one that is kept, and one that is not.
    pub modules: Vec<Wanted>,
}

impl WantedModules {
    /// What is wanted of the module of this name that is kept, or of the one in plugin folders.
    pub fn get(&self, name: &str, is_kept: bool) -> Option<&Wanted> {
        let mut modules = self.modules.iter();
        modules.find(|wanted| wanted.name == name && wanted.kept.is_some() == is_kept)
    }

    /// What counts for a name: the kept one, else the one in plugin folders, else what holds of those.
    pub fn of(&self, name: &str) -> Wanted {
        let wanted = self.get(name, true).or_else(|| self.get(name, false));
        wanted.cloned().unwrap_or_else(|| Wanted::of_folder(name))
    }

    /// Those that are kept.
    pub fn kept(&self) -> impl Iterator<Item = (&Wanted, &Kept)> {
        let modules = self.modules.iter();
        modules.filter_map(|wanted| Some((wanted, wanted.kept.as_ref()?)))
    }

    /// Takes over a decision that was written down.
    pub fn take(&mut self, decision: &Decision, generation: i64) {
        let is_kept = decision.wanted.kept.is_some();
        let is_other = |wanted: &Wanted| {
            wanted.name != decision.wanted.name || wanted.kept.is_some() != is_kept
        };
        self.modules.retain(is_other);
        if !decision.forgets() {
            self.modules.push(decision.made(generation));
        }
        self.generation = self.generation.max(generation);
    }
}

/// What an administrator decided about a module. It counts if nobody decided otherwise meanwhile.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What is wanted from now on; its generations are those that were known before, 0 if nothing was.
    pub wanted: Wanted,
    /// Whether it is to be loaded anew.
    pub is_load: bool,
}

impl Decision {
    /// Whether nothing is wanted of it any more: what is kept is removed with its files.
    pub fn forgets(&self) -> bool {
        self.wanted.state == WantedState::Removed && self.wanted.kept.is_some()
    }

    /// What is wanted once this generation was given to it.
    pub fn made(&self, generation: i64) -> Wanted {
        Wanted {
            generation,
            loaded: match self.is_load {
                true => generation,
                false => self.wanted.loaded,
            },
            ..self.wanted.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(name: &str) -> Wanted {
        Wanted {
            kept: Some(Kept {
                digest: "d".to_owned(),
                key: "k".to_owned(),
                size: 1,
                path: "/m".to_owned(),
            }),
            ..Wanted::of_folder(name)
        }
    }

    #[test]
    fn what_is_kept_counts_before_what_lies_in_a_folder_and_leaves_it_as_it_was() {
        let mut all = WantedModules::default();
        assert_eq!(all.of("m").state, WantedState::Running);
        let stopped = Wanted {
            state: WantedState::Stopped,
            ..Wanted::of_folder("m")
        };
        let decision = |wanted, is_load| Decision { wanted, is_load };
        all.take(&decision(stopped, false), 1);
        all.take(&decision(kept("m"), true), 2);
        let counts = all.of("m");
        assert_eq!((counts.generation, counts.loaded), (2, 2));
        assert_eq!(counts.state, WantedState::Running);
        let removed = Wanted {
            state: WantedState::Removed,
            ..counts
        };
        all.take(&decision(removed, false), 3);
        assert_eq!(all.of("m").state, WantedState::Stopped);
        assert_eq!((all.generation, all.modules.len()), (3, 1));
    }
}
