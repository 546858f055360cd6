//! Flags of the commands that serve. Each is a setting.

use clap::Args;

use crate::settings::Flags;

/// Flags of all that serve. Each is a setting; more settings, as variables, stand in `.env.example`.
#[derive(Debug, Args)]
pub(crate) struct ServiceFlags {
    /// Folder of everything the runner keeps [RUNNER_INSTANCE_FOLDER, default instance]
    #[arg(long)]
    instance_folder: Option<String>,
    /// Folders of plugins, separated by colons [PLUGIN_FOLDERS, default plugins and stable_plugins/*]
    #[arg(long)]
    plugin_folders: Option<String>,
    /// Reloads modules that change in the plugin folders, loads new ones and removes others [WATCH, default off]
    #[arg(long)]
    watch: bool,
    /// Where tasks are kept: sqlite:///path, postgresql://… or mysql://… [DATABASE_URL, default in the instance folder]
    #[arg(long)]
    database_url: Option<String>,
    /// Folders below which file:// URLs may be opened, separated by colons [FILE_ROOTS, default none]
    #[arg(long)]
    file_roots: Option<String>,
    /// error, warn, info, debug or trace [LOG_LEVEL, default info]
    #[arg(long)]
    log_level: Option<String>,
}

impl ServiceFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = given([
            ("RUNNER_INSTANCE_FOLDER", &self.instance_folder),
            ("PLUGIN_FOLDERS", &self.plugin_folders),
            ("DATABASE_URL", &self.database_url),
            ("FILE_ROOTS", &self.file_roots),
            ("LOG_LEVEL", &self.log_level),
        ]);
        if self.watch {
            flags.insert("WATCH", "on".to_owned());
        }
        flags
    }
}

/// Flags of what listens.
#[derive(Debug, Args)]
pub(crate) struct ListenFlags {
    /// Address to listen on [RUNNER_HOST, default 127.0.0.1]
    #[arg(long)]
    host: Option<String>,
    /// Port to listen on; 0 takes a free one [RUNNER_PORT, default 5005]
    #[arg(long)]
    port: Option<String>,
    /// Shows all routes and a host page for micro frontends at /debug/ [DEVELOPMENT, default off]
    #[arg(long)]
    dev: bool,
}

impl ListenFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        let mut flags = given([("RUNNER_HOST", &self.host), ("RUNNER_PORT", &self.port)]);
        if self.dev {
            flags.insert("DEVELOPMENT", "on".to_owned());
        }
        flags
    }
}

/// Flags of what shares a queue with others.
#[derive(Debug, Args)]
pub(crate) struct QueueFlags {
    // As a comment for documents its brackets would be links.
    #[arg(
        long,
        help = "Where the queue is: redis://[user:password@]host[:port][/database] [BROKER_URL]"
    )]
    broker_url: Option<String>,
    /// Name of the queue; servers and workers of one name work together [QUEUE, default runner]
    #[arg(long)]
    queue: Option<String>,
}

impl QueueFlags {
    /// The settings they are.
    pub(crate) fn flags(&self) -> Flags {
        given([("BROKER_URL", &self.broker_url), ("QUEUE", &self.queue)])
    }
}

/// The flags that were given.
pub(crate) fn given<const N: usize>(flags: [(&'static str, &Option<String>); N]) -> Flags {
    let given = flags
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.clone()?)));
    given.collect()
}
