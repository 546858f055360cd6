//! Where the store keeps things, and how sure it is of them.

use std::path::PathBuf;

/// What the store needs to know to open.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The file of SQLite. Two more lie beside it while it is open (`-wal`, `-shm`).
    pub database: PathBuf,
    /// The folder of the file store.
    pub files: PathBuf,
    /// What an acknowledged write survives.
    pub durability: Durability,
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process, also by `kill -9`. After a power cut the database is whole, but may lack
    /// the last moments.
    #[default]
    Process,
    /// A power cut: everything is synced before it is acknowledged.
    Power,
}
