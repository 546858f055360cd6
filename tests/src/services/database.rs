//! The database of an installation, whichever server has it.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use super::{MariadbServer, PostgresServer, mariadb, postgres, program, run};

/// A database of its own.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server, and the name of the database.
    Postgres(Arc<PostgresServer>, String),
    /// A server, and the name of the database.
    Mariadb(Arc<MariadbServer>, String),
}

impl Database {
    /// An empty one at this server.
    pub fn postgres(server: &Arc<PostgresServer>) -> Self {
        Self::Postgres(Arc::clone(server), server.create_database())
    }

    /// An empty one at this server.
    pub fn mariadb(server: &Arc<MariadbServer>) -> Self {
        Self::Mariadb(Arc::clone(server), server.create_database())
    }

    /// Its URL.
    pub fn url(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("sqlite:///{}", path.display()),
            Self::Postgres(server, name) => server.url(name),
            Self::Mariadb(server, name) => server.url(name),
        }
    }

    /// Its URL when its server is reached by another port.
    ///
    /// # Panics
    /// If it is a file.
    pub fn url_via(&self, port: u16) -> String {
        match self {
            Self::Sqlite(path) => panic!("{} has no port", path.display()),
            Self::Postgres(_, name) => postgres::url(port, name),
            Self::Mariadb(_, name) => mariadb::url(port, name),
        }
    }

    /// The port of its server.
    ///
    /// # Panics
    /// If it is a file.
    pub fn port(&self) -> u16 {
        match self {
            Self::Sqlite(path) => panic!("{} has no port", path.display()),
            Self::Postgres(server, _) => server.port(),
            Self::Mariadb(server, _) => server.port(),
        }
    }

    /// Runs SQL that all three understand; gives the rows, with NULL as an empty text.
    ///
    /// # Panics
    /// If it is refused.
    pub fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self {
            Self::Postgres(server, name) => server.rows(name, sql),
            Self::Mariadb(server, name) => server.rows(name, sql),
            Self::Sqlite(path) => {
                let mut command = Command::new(program("sqlite3", &[]));
                command.args(["-batch", "-bail", "-separator", "\x1f"]);
                let busy = ["-cmd", ".timeout 10000"];
                let text = run(command.args(busy).arg(path).arg(sql));
                text.lines()
                    .map(|line| line.split('\x1f').map(str::to_owned).collect())
                    .collect()
            }
        }
    }

    /// The only value of the only row, a number.
    ///
    /// # Panics
    /// If it is none.
    pub fn number(&self, sql: &str) -> i64 {
        let rows = self.rows(sql);
        let value = rows.first().and_then(|row| row.first());
        let number = value.and_then(|value| value.parse().ok());
        number.unwrap_or_else(|| panic!("{sql} gave {rows:?}"))
    }
}
