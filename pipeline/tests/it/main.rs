//! The engine at its door: documents in, items out.

mod bad_input;
mod calls;
mod checks;
mod control;
mod lineage;
mod sources;
mod support;
