//! One file per command.

pub(crate) mod bench;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod container;
pub(crate) mod db;
pub(crate) mod doctor;
pub(crate) mod files;
pub(crate) mod health;
pub(crate) mod hosts;
pub(crate) mod housekeeping;
pub(crate) mod kernels;
pub(crate) mod licenses;
pub(crate) mod module;
pub(crate) mod openapi;
pub(crate) mod pipeline;
pub(crate) mod plugin;
pub(crate) mod schedule;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod task;
pub(crate) mod token;
pub(crate) mod up;
pub(crate) mod worker;

use clap::Args;

use crate::settings::sources::Sources;
use crate::settings::{Flags, Settings};

/// Flags of the commands that load plugins.
#[derive(Debug, Args)]
pub(crate) struct Folders {
    /// Folders of plugins, separated by colons [PLUGIN_FOLDERS, default plugins and stable_plugins/*]
    #[arg(long, value_name = "FOLDERS")]
    plugin_folders: Option<String>,
}

impl Folders {
    /// The settings with these flags and more.
    pub(crate) fn settings(&self, more: Flags) -> anyhow::Result<Settings> {
        let mut flags = more;
        if let Some(folders) = &self.plugin_folders {
            flags.insert("PLUGIN_FOLDERS", folders.clone());
        }
        Settings::read(&Sources::read(flags)?)
    }
}
