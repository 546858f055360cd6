//! The words of the runner as types, and their rules. No I/O.
//!
//! # Layout
//! - [`identity`]: names, versions and identifiers of plugins.
//! - [`plugin`]: what a module offers: metadata, parameters, steps.
//! - [`parameters`]: a JSON Schema as the fields of a form, and the validation of what is sent.
//! - [`task`]: one invocation of a plugin, its states, and the one function that changes it.
//! - [`job`]: a note that a worker should look at a task.
//! - [`schedule`]: work that comes again. [`retention`]: how long what has ended is kept. [`age`]: spans of time as
//!   people write them.
//! - [`mod@file`]: inputs and outputs, their names and types.
//! - [`module`]: a loaded file or folder and its life cycle. [`wanted`]: what administrators want of it.
//! - [`pipeline`]: what is wanted of a pipeline that runs.
//! - [`text`]: the spellings of names (kebab-case, camelCase, snake_case).

pub mod age;
pub mod file;
pub mod identity;
pub mod job;
pub mod module;
pub mod parameters;
pub mod pipeline;
pub mod plugin;
pub mod retention;
pub mod schedule;
pub mod task;
pub mod text;
pub mod wanted;
