//! The host of pipelines: a document such as `words.pipeline.yaml` is a module, and what it offers
//! is a plugin with the pipeline's name, version and parameters.
//!
//! The engine runs in the host, with its built-ins. A node that is a plugin is run as a task that
//! the pipeline calls (`call` of the plugin protocol), so it needs no host here. Calls are made one
//! at a time: a run that has a call open gives back its slot, and takes it again when that one has
//! ended.
//!
//! # Layout
//! - [`pipeline_host_main`]: the process. `module`: the document as a plugin.
//! - `world`: files of a run, and plugins as nodes. `run`: one run to its end.

mod host;
mod module;
mod run;
mod world;

pub use host::pipeline_host_main;
