//! The `runner` command: flags, environment, wiring. No logic of its own.

mod commands;
mod settings;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Turns files in a folder into documented REST services.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the plugins of the plugin folders: server and workers in one process.
    Up(commands::up::Up),
    /// Prints every setting with its value, its meaning, and where it was set.
    Config,
    /// Starts, confines and ends plugin processes. Started by the runner itself.
    #[command(hide = true)]
    Launcher,
    /// Hosts the plugins of a shared object. Started by the runner itself.
    #[command(hide = true)]
    NativeHost {
        /// The shared object.
        library: std::path::PathBuf,
    },
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Up(up) => up.run(),
        Command::Config => commands::config::run(),
        Command::Launcher => runner_host::launcher_main().map_err(Into::into),
        Command::NativeHost { library } => {
            runner_host::native::native_host_main(library).map_err(Into::into)
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runner: {error:#}");
            ExitCode::FAILURE
        }
    }
}
