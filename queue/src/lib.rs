//! Jobs and events: in process.
