//! `runner plugin`: one file per verb.

mod check;
mod fetch;
mod install;
mod list;
mod new;
pub(crate) mod run;
mod sdk;
mod show;

use clap::Subcommand;

/// What can be done with plugins.
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    /// Lists the plugins of the plugin folders, and the modules that could not be loaded.
    List(list::List),
    /// Shows a plugin: what it does, its parameters, its outputs, how to run it.
    Show(show::Show),
    /// Runs a plugin without a server and puts its outputs into a folder.
    Run(run::Run),
    /// Writes a new plugin that works, with its test.
    New(new::New),
    /// Loads a plugin, says what is wrong with it and why, and runs its example.
    Check(check::Check),
    /// Fetches the plugins that GIT_PLUGINS names; a runner that serves takes them at its next start.
    Fetch(fetch::Fetch),
    /// Installs the packages that plugins in Python need.
    Install(install::Install),
    /// Prints the folder of the Python SDK, for editors and tests.
    Sdk(sdk::Sdk),
}

impl Plugin {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        match self {
            Self::List(list) => list.run(),
            Self::Show(show) => show.run(),
            Self::Run(run) => run.run(),
            Self::New(new) => new.run(),
            Self::Check(check) => check.run(),
            Self::Fetch(fetch) => fetch.run(),
            Self::Install(install) => install.run(),
            Self::Sdk(sdk) => sdk.run(),
        }
    }
}
