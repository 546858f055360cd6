//! Where the store keeps things, and how sure it is of them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::ConnectOptions as _;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use url::Url;

use crate::Bucket;
use crate::sql::Dialect;

/// What the store needs to know to open.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The database.
    pub database: DatabaseUrl,
    /// The folder of the file store; of its drafts alone where there is a bucket.
    pub files: PathBuf,
    /// Where files are kept instead of a folder.
    pub bucket: Option<Bucket>,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// The queue whose tasks are made, taken and swept here.
    pub queue: String,
    /// This process, at most 64 bytes; unique for each start. It holds the tasks that are run here.
    pub process: String,
    /// Whether no other process changes the database as long as the store is open: then the newest tasks are
    /// answered from memory. Who says so must hold a lock that keeps others away.
    pub is_alone: bool,
}

/// What an acknowledged write survives. A server of SQL decides for itself; what is said here is about files, and
/// about SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// The end of the process, also by `kill -9`. After a power cut the database is whole, but may lack
    /// the last moments.
    #[default]
    Process,
    /// A power cut: everything is synced before it is acknowledged.
    Power,
}

/// Where the database is. Shown without its password.
#[derive(Clone)]
pub struct DatabaseUrl {
    server: Server,
    shown: String,
}

/// A database with all that is needed to connect to it.
#[derive(Clone)]
pub(crate) enum Server {
    Sqlite(PathBuf),
    Postgres(Box<PgConnectOptions>),
    Mysql(Box<MySqlConnectOptions>),
}

/// Why a URL names no database that can be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadDatabaseUrl(String);

/// What is expected.
const EXPECTED: &str = "expected sqlite:///path, postgresql://user:password@host/database or \
    mysql://user:password@host/database";

/// Options in the query of SQLAlchemy's URLs, by the name that sqlx has for them; with no name: it changes nothing
/// here, and is passed over with a notice.
const POSTGRES_OPTIONS: &[(&str, Option<&str>)] = &[
    ("sslmode", Some("sslmode")),
    ("ssl-mode", Some("sslmode")),
    ("sslrootcert", Some("sslrootcert")),
    ("ssl-root-cert", Some("sslrootcert")),
    ("ssl-ca", Some("sslrootcert")),
    ("sslcert", Some("sslcert")),
    ("ssl-cert", Some("sslcert")),
    ("sslkey", Some("sslkey")),
    ("ssl-key", Some("sslkey")),
    ("host", Some("host")),
    ("hostaddr", Some("hostaddr")),
    ("port", Some("port")),
    ("dbname", Some("dbname")),
    ("user", Some("user")),
    ("password", Some("password")),
    ("application_name", Some("application_name")),
    ("options", Some("options")),
    ("statement-cache-capacity", Some("statement-cache-capacity")),
    ("connect_timeout", None),
    ("client_encoding", None),
    ("gssencmode", None),
    ("keepalives", None),
    ("keepalives_idle", None),
    ("keepalives_interval", None),
    ("keepalives_count", None),
    ("prepare_threshold", None),
];
const MYSQL_OPTIONS: &[(&str, Option<&str>)] = &[
    ("ssl-mode", Some("ssl-mode")),
    ("sslmode", Some("ssl-mode")),
    ("ssl_mode", Some("ssl-mode")),
    ("ssl-ca", Some("ssl-ca")),
    ("sslca", Some("ssl-ca")),
    ("ssl_ca", Some("ssl-ca")),
    ("ssl-cert", Some("ssl-cert")),
    ("sslcert", Some("ssl-cert")),
    ("ssl_cert", Some("ssl-cert")),
    ("ssl-key", Some("ssl-key")),
    ("sslkey", Some("ssl-key")),
    ("ssl_key", Some("ssl-key")),
    ("socket", Some("socket")),
    ("unix_socket", Some("socket")),
    ("statement-cache-capacity", Some("statement-cache-capacity")),
    ("charset", None),
    ("collation", None),
    ("use_unicode", None),
    ("binary_prefix", None),
    ("connect_timeout", None),
    ("read_timeout", None),
    ("write_timeout", None),
    ("autocommit", None),
    ("local_infile", None),
];

impl DatabaseUrl {
    /// Reads the URL of a database, also as SQLAlchemy writes it: `sqlite:///relative`, `sqlite:////absolute`,
    /// `postgresql://…`, `postgresql+psycopg2://…`, `mysql://…`, `mysql+pymysql://…`, `mariadb+…://…`. The query may
    /// hold what sqlx knows of TLS and sockets.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(text: &str) -> Result<Self, BadDatabaseUrl> {
        let scheme = text.split(':').next().unwrap_or_default();
        let (dialect, _driver) = scheme.split_once('+').unwrap_or((scheme, ""));
        match dialect.to_ascii_lowercase().as_str() {
            "sqlite" => Self::sqlite(text),
            "postgres" | "postgresql" => {
                let (url, shown) = server_url(text, "postgres", POSTGRES_OPTIONS)?;
                let options = PgConnectOptions::from_url(&url).map_err(|e| refused(&shown, &e))?;
                Ok(Self {
                    server: Server::Postgres(Box::new(options.disable_statement_logging())),
                    shown,
                })
            }
            "mysql" | "mariadb" => {
                let (url, shown) = server_url(text, "mysql", MYSQL_OPTIONS)?;
                let options =
                    MySqlConnectOptions::from_url(&url).map_err(|e| refused(&shown, &e))?;
                let options = options
                    .charset("utf8mb4")
                    .collation("utf8mb4_bin")
                    .disable_statement_logging();
                Ok(Self {
                    server: Server::Mysql(Box::new(options)),
                    shown,
                })
            }
            _ if !text.contains(':') => Err(BadDatabaseUrl(format!("no URL: {EXPECTED}"))),
            other => Err(BadDatabaseUrl(format!("{EXPECTED}, found {other:?}"))),
        }
    }

    fn sqlite(text: &str) -> Result<Self, BadDatabaseUrl> {
        let path = text.split_once(':').map_or("", |(_, path)| path);
        let path = path.split('?').next().unwrap_or_default();
        let path = path
            .strip_prefix("///")
            .or_else(|| path.strip_prefix("//"))
            .unwrap_or(path);
        if path.is_empty() || path == ":memory:" {
            return Err(BadDatabaseUrl(
                "a database in memory would be lost with the process: expected sqlite:///path"
                    .to_owned(),
            ));
        }
        Ok(Self::of_file(path))
    }

    /// A file of SQLite. Two more lie beside it while it is open (`-wal`, `-shm`).
    pub fn of_file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self {
            shown: path.display().to_string(),
            server: Server::Sqlite(path),
        }
    }

    /// The file, if it is SQLite's.
    pub fn file(&self) -> Option<&Path> {
        match &self.server {
            Server::Sqlite(path) => Some(path),
            _ => None,
        }
    }

    /// Whether it is a server, which several machines can use.
    pub fn is_server(&self) -> bool {
        self.file().is_none()
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match &self.server {
            Server::Sqlite(_) => Dialect::Sqlite,
            Server::Postgres(_) => Dialect::Postgres,
            Server::Mysql(_) => Dialect::Mysql,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }
}

impl FromStr for DatabaseUrl {
    type Err = BadDatabaseUrl;

    fn from_str(text: &str) -> Result<Self, BadDatabaseUrl> {
        Self::parse(text)
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DatabaseUrl({})", self.shown)
    }
}

fn refused(shown: &str, error: &sqlx::Error) -> BadDatabaseUrl {
    BadDatabaseUrl(format!("{shown}: {error}"))
}

/// The URL as sqlx wants it, and as it may be shown.
fn server_url(
    text: &str,
    scheme: &str,
    options: &[(&str, Option<&str>)],
) -> Result<(Url, String), BadDatabaseUrl> {
    let rest = text.split_once("://").map(|(_, rest)| rest);
    let rest = rest.ok_or_else(|| BadDatabaseUrl(EXPECTED.to_owned()))?;
    // SQLAlchemy leaves the host out where the query has a socket.
    let rest = match rest.rsplit_once('@') {
        Some((user, host)) if host.starts_with('/') => format!("{user}@localhost{host}"),
        None if rest.starts_with('/') => format!("localhost{rest}"),
        _ => rest.to_owned(),
    };
    let mut url = Url::parse(&format!("{scheme}://{rest}"))
        .map_err(|error| BadDatabaseUrl(format!("the URL of the database is wrong: {error}")))?;
    if url.path().trim_matches('/').is_empty() && url.query_pairs().all(|(key, _)| key != "dbname")
    {
        return Err(BadDatabaseUrl(format!(
            "the URL names no database: {EXPECTED}"
        )));
    }
    let mut kept = Vec::new();
    for (key, value) in url.query_pairs() {
        match options.iter().find(|(name, _)| *name == key) {
            Some((_, Some(name))) => kept.push(((*name).to_owned(), value.into_owned())),
            Some((_, None)) => {
                tracing::warn!(option = %key, "the option of the database's URL changes nothing here");
            }
            None => {
                return Err(BadDatabaseUrl(format!(
                    "the URL of the database has an unknown option {key:?}"
                )));
            }
        }
    }
    url.set_query(None);
    if !kept.is_empty() {
        url.query_pairs_mut().extend_pairs(&kept);
    }
    let mut shown = url.clone();
    if shown.password().is_some() && shown.set_password(Some("***")).is_err() {
        shown.set_path("");
    }
    shown.set_query(None);
    Ok((url, shown.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> String {
        DatabaseUrl::parse(url).unwrap().to_string()
    }

    #[test]
    fn urls_of_sqlalchemy_name_the_three() {
        let file = |url| DatabaseUrl::parse(url).unwrap().file().unwrap().to_owned();
        assert_eq!(file("sqlite:///a/b.db"), Path::new("a/b.db"));
        assert_eq!(file("sqlite:////a/b.db?timeout=3"), Path::new("/a/b.db"));
        for scheme in [
            "postgres",
            "postgresql",
            "postgresql+psycopg",
            "postgresql+psycopg2",
        ] {
            let url = DatabaseUrl::parse(&format!("{scheme}://u@h:1/d?sslmode=require")).unwrap();
            assert_eq!(url.dialect(), Dialect::Postgres);
            assert_eq!(url.to_string(), "postgres://u@h:1/d");
        }
        for scheme in [
            "mysql",
            "mysql+pymysql",
            "mariadb",
            "mariadb+mariadbconnector",
        ] {
            let url = DatabaseUrl::parse(&format!("{scheme}://u@h/d?charset=utf8")).unwrap();
            assert_eq!(url.dialect(), Dialect::Mysql);
        }
    }

    #[test]
    fn sockets_are_found() {
        let url = DatabaseUrl::parse("mysql+pymysql://u@/d?unix_socket=/run/s.sock").unwrap();
        let Server::Mysql(options) = url.server() else {
            panic!("{url}");
        };
        assert_eq!(
            options.get_socket().map(PathBuf::as_path),
            Some(Path::new("/run/s.sock"))
        );
        let url = DatabaseUrl::parse("postgresql:///d?host=/run/postgresql").unwrap();
        let Server::Postgres(options) = url.server() else {
            panic!("{url}");
        };
        assert_eq!(
            options.get_socket().map(PathBuf::as_path),
            Some(Path::new("/run/postgresql"))
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        for url in [
            "postgres://me:se%20cret@h/d",
            "mysql://me:se%20cret@h/d?ssl-mode=DISABLED",
            "postgres://me@h/d?password=se%20cret",
        ] {
            let url = DatabaseUrl::parse(url).unwrap();
            assert!(!format!("{url} {url:?}").contains("cret"), "{url}");
        }
        for url in [
            "postgres://me:secret@h:x/d",
            "postgres://me:secret@h/",
            "mysql://me:secret@h/d?no=1",
            "mysql://me:secret@h/d?ssl-mode=sometimes",
            "oracle://me:secret@h/d",
            "me:secret@h/d",
        ] {
            let error = DatabaseUrl::parse(url).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        }
        assert_eq!(shown("mysql://me:secret@h/d"), "mysql://me:***@h/d");
    }

    #[test]
    fn what_is_none_of_the_three_is_refused_by_name() {
        let refused = |url| DatabaseUrl::parse(url).unwrap_err().to_string();
        assert!(refused("redis://h").contains("\"redis\""));
        assert!(refused("sqlite://").contains("in memory"));
        assert!(refused("sqlite:///:memory:").contains("in memory"));
        assert!(refused("mysql://h/d?ssl_verify_cert=1").contains("ssl_verify_cert"));
        assert!(refused("somewhere").contains("sqlite:///path"));
    }
}
