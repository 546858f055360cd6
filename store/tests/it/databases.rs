//! A database for each test, on servers that are there or are started for the tests.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{AssertSqlSafe, Connection, MySqlConnection, PgConnection};

use crate::servers;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Sqlite,
    Postgres,
    Mysql,
}

impl On {
    pub(crate) const ALL: [Self; 3] = [Self::Sqlite, Self::Postgres, Self::Mysql];
}

/// A database that is removed at the end.
pub(crate) struct Database {
    url: String,
    /// The server that it is on, and its name.
    made: Option<(On, String, String)>,
}

impl Database {
    /// An empty one.
    pub(crate) async fn new(on: On, folder: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = match on {
            On::Sqlite => {
                let path = folder.join("sql/runner.db");
                return Self {
                    url: format!("sqlite:///{}", path.display()),
                    made: None,
                };
            }
            On::Postgres => servers::postgres().await,
            On::Mysql => servers::mysql().await,
        };
        let name = format!(
            "runner_test_{}_{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let url = match on {
            // As much as a database to who uses it, and a hundred times faster to be had and removed.
            On::Postgres => servers::with_schema(&server, &name),
            _ => servers::with_database(&server, &name),
        };
        let made = (on, server, name);
        run(&made, |name| match on {
            On::Postgres => format!("CREATE SCHEMA {name}"),
            _ => format!("CREATE DATABASE {name}"),
        })
        .await;
        Self {
            url,
            made: Some(made),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Says something to the server.
async fn run((on, server, name): &(On, String, String), sql: impl Fn(&str) -> String) {
    let sql = sqlx::raw_sql(AssertSqlSafe(sql(name)));
    match on {
        On::Sqlite => {}
        On::Postgres => {
            let mut connection = PgConnection::connect(server).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
        }
        On::Mysql => {
            let mut connection = MySqlConnection::connect(server).await.unwrap();
            sql.execute(&mut connection).await.unwrap();
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let Some(made) = self.made.take() else { return };
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(run(&made, |name| match made.0 {
                On::Postgres => {
                    format!("SET client_min_messages = warning; DROP SCHEMA {name} CASCADE")
                }
                _ => format!("DROP DATABASE {name}"),
            }));
        });
        if dropping.join().is_err() {
            eprintln!("a database of a test was not removed");
        }
    }
}
