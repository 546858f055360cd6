//! What can be wrong with entities.

use std::io;

/// Why entities cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the entities: {0}")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("cannot write the entities: {0}")]
    Write(#[source] io::Error),
    /// The file is not in its format.
    #[error("entity {entity} (line {line}): {reason}")]
    Entity {
        /// Number of the entity in the file, from 1.
        entity: u64,
        /// The line, from 1.
        line: u64,
        /// What is wrong there.
        reason: String,
    },
    /// The names of the columns of a CSV file are wrong.
    #[error("the names of the columns (line 1): {0}")]
    Columns(String),
    /// An entity does not fit the CSV file that is written.
    #[error("entity {entity} cannot be written as CSV: {reason}")]
    Unwritable {
        /// Number of the entity in the file, from 1.
        entity: u64,
        /// What does not fit.
        reason: String,
    },
}
