//! Cells that a short address leads to. The address is random, so that nobody finds those of others; the same cell has
//! the same address.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

use crate::deliveries::milliseconds;
use crate::recent::Recent;
use crate::sql::{Ask, Connection, Dialect, Statement, args};
use crate::writer::Write;
use crate::{Store, StoreError, file_store};

/// How exactly it is known when one was read last.
const READ_STEP: Duration = Duration::from_secs(24 * 3_600);
/// Random bytes of an address.
const RANDOM: usize = 9;
/// Bytes of the longest text that can be an address.
const MAX_QUERY: usize = 32;

/// A cell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Permalink {
    /// What is run.
    pub code: String,
    /// In which language.
    pub language: String,
    /// The state of its interacts, as JSON.
    pub interacts: String,
}

impl Permalink {
    /// The same for the same cell, and for no other.
    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for text in [&self.code, &self.language, &self.interacts] {
            digest.update((text.len() as u64).to_le_bytes());
            digest.update(text);
        }
        let bytes = digest.finalize();
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Store {
    /// The address of a cell, which is kept.
    ///
    /// # Errors
    /// Why it was not written.
    pub async fn make_permalink(&self, permalink: Permalink) -> Result<String, StoreError> {
        let make = Make {
            digest: permalink.digest(),
            query: URL_SAFE_NO_PAD.encode(file_store::random::<RANDOM>()),
            permalink,
        };
        self.writer().write(make).await
    }

    /// The cell that an address leads to, if it leads to one.
    ///
    /// # Errors
    /// Why it could not be read.
    pub async fn permalink(&self, query: &str) -> Result<Option<Permalink>, StoreError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if query.len() > MAX_QUERY || !query.bytes().all(is_plain) {
            return Ok(None);
        }
        let attempt = "reading a permalink";
        let failed = |source| StoreError::sql(attempt, source);
        let step = milliseconds(READ_STEP);
        let row = self
            .reader(attempt)
            .await?
            .row(&READ, args![query, step])
            .await;
        let Some(row) = row.map_err(failed)? else {
            return Ok(None);
        };
        if row.get::<i64>(3).map_err(failed)? != 0 {
            let query = query.to_owned();
            self.writer().write(Touch::Read(query)).await?;
        }
        Ok(Some(Permalink {
            code: row.get(0).map_err(failed)?,
            language: row.get(1).map_err(failed)?,
            interacts: row.get(2).map_err(failed)?,
        }))
    }

    /// Removes those that nobody has read for so long. Answers how many.
    ///
    /// # Errors
    /// Why they were not removed.
    pub async fn remove_permalinks(&self, unread: Duration) -> Result<u64, StoreError> {
        self.writer().write(Touch::Forget(unread)).await
    }
}

struct Make {
    digest: String,
    query: String,
    permalink: Permalink,
}

impl Write for Make {
    type Answer = String;

    fn remember(&self, _: &String, _: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _: bool) -> Result<String, StoreError> {
        let failed = |source| StoreError::sql("making a permalink", source);
        let Permalink {
            code,
            language,
            interacts,
        } = &self.permalink;
        let made = args![&self.query, &self.digest, code, language, interacts];
        connection.execute(&MAKE, made).await.map_err(failed)?;
        // What somebody else was faster with has another address.
        let row = connection.row(&FIND, args![&self.digest]).await;
        match row.map_err(failed)? {
            Some(row) => row.get(0).map_err(failed),
            None => Err(StoreError::Corrupt {
                attempt: "making a permalink".to_owned(),
                column: "digest",
                reason: "it is not there after it was made".to_owned(),
            }),
        }
    }
}

/// What is done with those that there are.
enum Touch {
    /// One was read.
    Read(String),
    /// Those that nobody has read for so long are removed.
    Forget(Duration),
}

impl Write for Touch {
    type Answer = u64;

    fn is_one_statement(&self, _: Dialect) -> bool {
        true
    }

    fn remember(&self, _: &u64, _: &Recent) {}

    async fn apply(&self, connection: &mut Connection, _: bool) -> Result<u64, StoreError> {
        let done = match self {
            Self::Read(query) => connection.execute(&TOUCH, args![query]).await,
            Self::Forget(unread) => {
                let unread = args![milliseconds(*unread)];
                connection.execute(&FORGET, unread).await
            }
        };
        let failed = |source| StoreError::sql("keeping permalinks", source);
        done.map(|done| done.hit).map_err(failed)
    }
}

static MAKE: Statement = Statement::new(
    "INSERT INTO permalinks (query, digest, read_at, code, language, interacts) \
     VALUES (?1, ?2, {now}, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
)
.mysql(
    "INSERT IGNORE INTO permalinks (query, digest, read_at, code, language, interacts) \
     VALUES (?1, ?2, {now}, ?3, ?4, ?5)",
);

static FIND: Statement = Statement::new("SELECT query FROM permalinks WHERE digest = ?1").lookup();

static READ: Statement = Statement::new(
    "SELECT code, language, interacts, CASE WHEN read_at < {now} - ?2 THEN 1 ELSE 0 END \
     FROM permalinks WHERE query = ?1",
)
.postgres(
    "SELECT code, language, interacts, CAST(CASE WHEN read_at < {now} - ?2 THEN 1 ELSE 0 END AS BIGINT) \
     FROM permalinks WHERE query = ?1",
)
.lookup();

static TOUCH: Statement = Statement::new("UPDATE permalinks SET read_at = {now} WHERE query = ?1");

static FORGET: Statement = Statement::new("DELETE FROM permalinks WHERE read_at < {now} - ?1");
