//! The `runner` command: flags, environment, wiring. No logic of its own.
//!
//! # Layout
//! - `commands`: one file per command. `settings`: what can be set, and where it was.
//! - `service`: server and worker, wired. `surroundings`: what they wait for before, and forward. `greeting`, `logging`,
//!   `board`: what is seen of them. `instance`: the instance folder, its lock and token.
//! - `scratch`, `trial`: plugins without a server: loaded in a temporary folder, and one task run with all
//!   that a server has. `values`: parameters as they are typed. `nodes`: what a pipeline works with here.
//! - `client`, `events`: a runner that serves, over HTTP.
//! - `screen`, `live`: what is shown.

mod board;
mod caller;
mod client;
mod commands;
mod draft;
mod events;
mod git;
mod greeting;
mod instance;
mod live;
mod logging;
mod nodes;
mod roster;
mod scratch;
mod screen;
mod service;
mod settings;
mod surroundings;
mod trial;
mod values;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use mimalloc::MiMalloc;
use screen::{BAD, Exit, Unread, note, paint};

/// A tenth of a task and a third of a request would be spent in the allocator of the C library.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Turns files in a folder into documented REST services.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "\
Try it:
  runner up                                       serve the plugins that are here
  runner plugin new shout --lang python           begin a plugin of your own
  runner plugin run hello-world -p inputStr=hi    run one, without a server
  runner doctor                                   when something does not work

`runner help COMMAND` says more, docs/command.md all."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the plugins of the plugin folders: server and workers in one process.
    Up(commands::up::Up),
    /// Answers requests, and leaves the work to workers: the first of the two when one process is too small.
    Server(commands::server::Server),
    /// Takes jobs from the queue and runs them.
    Worker(commands::worker::Worker),
    /// Serves as the variables say, in a container.
    Container(commands::container::Container),
    /// Whether a runner on this machine can do its work.
    Health(commands::health::Health),
    /// The tables of the database: make them, look at them, remove them.
    #[command(subcommand)]
    Db(commands::db::Db),
    /// Plugins, without a server: look at them, run them, begin and check your own.
    #[command(subcommand)]
    Plugin(commands::plugin::Plugin),
    /// Modules of a runner that serves: look at them, load, replace and remove them.
    #[command(subcommand)]
    Module(commands::module::Module),
    /// Graphs of plugins and built-ins through which items flow: check them, run them, draw them.
    #[command(subcommand)]
    Pipeline(commands::pipeline::Pipeline),
    /// Tasks of a runner that serves: look at them, wait for them, end them.
    #[command(subcommand)]
    Task(commands::task::Task),
    /// Makes a token for who may use a runner that checks them with AUTH_SECRET.
    Token(commands::token::Token),
    /// Work that comes again: look at it, make it, change it, fire it.
    #[command(subcommand)]
    Schedule(commands::schedule::Schedule),
    /// Kernels of clients of a runner that serves: look at them, end them.
    #[command(subcommand)]
    Session(commands::session::Session),
    /// Files of tasks: how many there are, and whether rows and content fit together.
    #[command(subcommand)]
    Files(commands::files::Files),
    /// Removes what is older than RETAIN_TASKS and the other settings of that kind say. Workers do it by themselves.
    Housekeeping(commands::housekeeping::Housekeeping),
    /// Prints every setting with its value, its meaning, and where it was set.
    Config(commands::config::Config),
    /// Looks whether everything is there that the runner needs, and says what to do.
    Doctor(commands::doctor::Doctor),
    /// Prints the OpenAPI document of the runner and its plugins, without a server.
    Openapi(commands::openapi::Openapi),
    /// Prints what the runner is made of, with licences.
    Licenses(commands::licenses::Licenses),
    /// Prints a script that completes commands and flags in a shell.
    Completions(commands::completions::Completions),
    /// Measures how fast a runner is here, beside the reference and the limits.
    Bench(commands::bench::Bench),
    /// Starts, confines and ends plugin processes. Started by the runner itself.
    #[command(hide = true)]
    Launcher {
        /// The sandbox, as JSON.
        config: String,
    },
    /// Hosts the plugins of a shared object. Started by the runner itself.
    #[command(hide = true)]
    NativeHost {
        /// The shared object.
        library: std::path::PathBuf,
    },
    /// Hosts the plugins of a Lua file. Started by the runner itself.
    #[command(hide = true)]
    LuaHost(commands::hosts::LuaHost),
    /// Hosts the plugins of a WebAssembly module. Started by the runner itself.
    #[command(hide = true)]
    WasmHost(commands::hosts::WasmHost),
    /// Hosts a pipeline. Started by the runner itself.
    #[command(hide = true)]
    PipelineHost {
        /// The document.
        document: std::path::PathBuf,
    },
    /// Is a kernel of Lua. Started by the runner itself.
    #[command(hide = true)]
    LuaKernel(commands::kernels::LuaKernel),
    /// Starts a kernel of Jupyter and speaks ZeroMQ with it. Started by the runner itself.
    #[command(hide = true)]
    KernelBridge(commands::kernels::KernelBridge),
    /// Makes the machine code of a WebAssembly module. Started by the runner itself.
    #[command(hide = true)]
    WasmCompile(commands::hosts::WasmCompile),
}

impl Command {
    fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Up(up) => up.run(),
            Self::Server(server) => server.run(),
            Self::Worker(worker) => worker.run(),
            Self::Container(container) => container.run(),
            Self::Health(health) => health.run(),
            Self::Db(db) => db.run(),
            Self::Plugin(plugin) => plugin.run(),
            Self::Module(module) => module.run(),
            Self::Pipeline(pipeline) => pipeline.run(),
            Self::Task(task) => task.run(),
            Self::Token(token) => token.run(),
            Self::Schedule(schedule) => schedule.run(),
            Self::Session(session) => session.run(),
            Self::Files(files) => files.run(),
            Self::Housekeeping(housekeeping) => housekeeping.run(),
            Self::Config(config) => config.run(),
            Self::Doctor(doctor) => doctor.run(),
            Self::Openapi(openapi) => openapi.run(),
            Self::Licenses(licenses) => licenses.run(),
            Self::Completions(completions) => completions.run(),
            Self::Bench(bench) => bench.run(),
            Self::Launcher { config } => runner_host::launcher_main(&config).map_err(Into::into),
            Self::NativeHost { library } => {
                runner_host::native::native_host_main(library).map_err(Into::into)
            }
            Self::LuaHost(host) => host.run(),
            Self::WasmHost(host) => host.run(),
            Self::PipelineHost { document } => {
                runner_flow::pipeline_host_main(&document).map_err(Into::into)
            }
            Self::LuaKernel(kernel) => kernel.run(),
            Self::KernelBridge(bridge) => bridge.run(),
            Self::WasmCompile(compile) => compile.run(),
        }
    }
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Some(command) => command.run(),
        None => screen::print(&Cli::command().render_help().ansi().to_string()),
    };
    let Err(error) = outcome else {
        return ExitCode::SUCCESS;
    };
    if error.is::<Unread>() {
        return ExitCode::SUCCESS;
    }
    if let Some(Exit(code)) = error.downcast_ref() {
        return ExitCode::from(*code);
    }
    note(&format!("{} {error:#}", paint(BAD, "runner:")));
    ExitCode::FAILURE
}
