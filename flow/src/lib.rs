//! The host of pipelines: a document such as `words.pipeline.yaml` is a module, and what it offers
//! is a plugin with the pipeline's name, version and parameters.
//!
//! The engine runs in the host, with its built-ins. A plugin that can be a node works in a host of
//! its module, which the runner starts, and whose socket it hands over. Any other is run as a task that
//! the pipeline calls (`call` of the plugin protocol). Calls are made one at a time: a run that has a
//! call open gives back its slot, and takes it again when that one has ended.
//!
//! # Layout
//! - [`pipeline_host_main`]: the process. `module`: the document as a plugin.
//! - `world`: files of a run, and plugins that are called. `run`: one run to its end. `leaving`: what leaves it.
//! - `live`: what is seen of a run is told, and what is wanted of it followed.
//! - [`Nodes`]: plugins as nodes in hosts, for whoever can start hosts. `hosts`: by way of the runner.

mod host;
mod hosts;
mod leaving;
mod live;
mod module;
mod nodes;
mod run;
mod world;

pub use host::pipeline_host_main;
pub use nodes::{Hosts, Nodes, Opening};
