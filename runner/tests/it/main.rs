//! The command, as people and scripts use it: the built program, in folders of its own.

mod bad_input;
mod doctor;
mod documentation;
mod general;
mod interrupt;
mod plugin;
mod plugin_new;
mod support;
mod task;
