//! The host of WebAssembly modules.
//!
//! A module is a WASI command (preview 1, such as `wasm32-wasip1` makes) that speaks the plugin protocol on its
//! standard streams. Every `describe` and `run` has an instance of its own, whose input is the line of
//! `welcome`, the line of the request, and the answers to what it asks; what it does not take further when it
//! has answered is thrown away. `ping` and `cancel` are dealt with by the host. A node of a pipeline has one instance
//! while it is open, whose input goes on with each request to it.
//!
//! # Layout
//! - [`wasm_compile_main`]: makes machine code, in a process of its own. [`wasm_host_main`]: runs it.
//! - `engine`: how modules are compiled and run. `guest`: one instance, and its talk with the runner.
//! - `node`: an instance that is a node.
//! - `wasi`: what an instance may ask of the system: its streams, the folders of its run, the time, randomness.
//!
//! # Invariants
//! - Machine code is loaded only from files that this account made and nobody else can write to.
//! - An instance sees the run's own folder and its inputs, and nothing else of the file system; no network.

mod engine;
mod guest;
mod host;
mod node;
mod wasi;

pub use engine::wasm_compile_main;
pub use host::wasm_host_main;

/// Why a module cannot be compiled or loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is no module that can be run.
    #[error("{0}")]
    Module(String),
    /// A file operation failed.
    #[error("cannot {what} {}: {source}", path.display())]
    File {
        /// The operation.
        what: &'static str,
        /// On what.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Error {
    fn file(
        what: &'static str,
        path: impl Into<std::path::PathBuf>,
    ) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
