#![doc = include_str!("../README.md")]

pub mod abi;
mod connection;
mod description;
pub mod entities;
#[doc(hidden)]
pub mod exports;
pub mod failure;
#[cfg(feature = "host")]
mod library;
mod node;
mod nodes;
mod output;
mod panics;
mod parameter;
mod plugin;
mod task;
pub mod testing;

pub use connection::HostCalls;
pub use description::{DataOutput, Description, Kind, StepDescription};
pub use failure::{Failure, RunFailure};
#[cfg(feature = "host")]
pub use library::{Error, NativeLibrary};
pub use node::{Made, Node, Opening, each};
pub use output::Output;
pub use parameter::{
    Boolean, Choice, Data, Integer, Json, List, Number, Parameter, PluginRef, Secret, Text, Upload,
    Url, kind,
};
pub use plugin::{Outcome, Plugin};
pub use serde_json::{Map, Value, json};
pub use task::{Called, Input, ModuleInfo, Task};
