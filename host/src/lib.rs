//! Modules and the processes in which they run.
//!
//! # Layout
//! - [`protocol`]: the messages between runner and host; `docs/protocol.md` is its prose.
//! - [`launcher`]: the small process that starts, confines and ends hosts.
//! - [`loader`]: which kinds of module there are, and how each is hosted.
//! - [`manifest`], [`discovery`], [`digest`]: what lies in the plugin folders, and its frozen copy.
//! - `reading`: modules from their files to their copies, and what is remembered of them.
//! - [`environments`]: the virtual environments of Python modules.
//! - [`host`]: one living host and the runs on it. [`pool`]: the living hosts of a module.
//! - `folders`: the folders of this process in the instance folder. [`RunFolder`]: where a run reads and writes.
//!   `carried`: files that are items.
//! - [`web`]: the host that answers requests to the own routes of plugins.
//! - `nodes`: the hosts of a pipeline's nodes. [`guest`]: processes of the runner's own behind the same launcher,
//!   [`GuestFiles`]: what lies in their folders.
//! - [`modules`]: what is loaded, the plugins it provides, and how that is changed. `usage`,
//!   `rusage`: what each was used for, and has used.
//! - [`tap`]: messages of hosts, shown and held up.
//! - `trust`: which modules may be loaded at all.
//! - [`hosted`]: the protocol, spoken for modules that do not speak it. [`native`] and [`lua`] are the host
//!   processes of shared objects and Lua; that of WebAssembly is a crate of its own.
//! - [`conformance`]: what every plugin must do, checked.
//!
//! # Invariants
//! - No code of a plugin runs in the runner's process.
//! - A host runs from a snapshot named by its digest: what is recorded is what ran.
//! - Whatever a host started ends with it, and all hosts end with the runner.

mod carried;
pub mod conformance;
mod crashes;
pub mod digest;
pub mod discovery;
pub mod environments;
mod error;
mod folders;
pub mod guest;
mod guest_files;
pub mod host;
pub mod hosted;
pub mod launcher;
mod lines;
pub mod loader;
pub mod lua;
pub mod manifest;
pub mod modules;
pub mod native;
mod nodes;
mod once_each;
mod package;
pub mod pool;
pub mod protocol;
mod reading;
mod run_folder;
mod rusage;
mod sdk;
pub mod tap;
mod trust;
mod usage;
pub mod web;

pub use carried::OwnFiles;
pub use discovery::Fetched;
pub use environments::{Environments, EnvironmentsConfig, Requirements};
pub use error::HostError;
pub use guest::{Guest, GuestPlace, GuestWish, Guests, Passed};
pub use guest_files::{GuestFile, GuestFiles};
pub use host::{RunEnd, RunHandler};
pub use launcher::{Launcher, Limits, SandboxConfig, SandboxMode, launcher_main};
pub use loader::interpreter_folders;
pub use manifest::NetworkRule;
pub use modules::{
    Backlog, ChangeError, DescriptionCache, FolderWatch, Ledger, LoadRequest, Module, Modules,
    ModulesConfig, NoCache, Provided,
};
pub use nodes::{MAX_NODE_HOSTS, NodeHosts, NodeLog, Opened};
pub use pool::Ping;
pub use pool::{Hosts, Lease};
pub use run_folder::{RunFiles, RunFolder};
pub use sdk::unpack as unpack_sdks;
pub use trust::Trust;
pub use web::{Visit, WebConnection};
