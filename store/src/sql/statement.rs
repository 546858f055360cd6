//! One statement in the three dialects.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::Dialect;

/// SQL with its arguments as `?1 ?2 …`, as SQLite has them. What differs in a dialect is said beside it;
/// what differs in the same way everywhere has a name in braces:
///
/// - `{now}`: milliseconds since 1970, by the clock of the database;
/// - `{for update}`: keeps others from changing a row until the end of the transaction;
/// - `{list ?2}`: a table with the columns `n` (order) and `value` (text) from a JSON list of texts;
/// - `{ids ?2}`: a table with the column `id` from a JSON list of integers;
/// - `{pairs ?2}`: a table with the columns `id` and `run` from a JSON list of pairs of integers.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    text: Cow<'static, str>,
    postgres: Option<&'static str>,
    mysql: Option<&'static str>,
    is_prepared: bool,
    is_lookup: bool,
    translated: [OnceLock<Translated>; 3],
}

/// A statement as a server wants it.
#[derive(Debug, Clone)]
pub(super) struct Translated {
    pub(super) text: Arc<str>,
    /// The argument that each placeholder stands for. Empty where placeholders have numbers.
    pub(super) binds: Vec<usize>,
}

impl Statement {
    /// For all dialects.
    pub(crate) const fn new(text: &'static str) -> Self {
        Self {
            text: Cow::Borrowed(text),
            postgres: None,
            mysql: None,
            is_prepared: true,
            is_lookup: false,
            translated: [const { OnceLock::new() }; 3],
        }
    }

    /// One that was put together, and is not kept prepared.
    pub(crate) fn once(text: String) -> Self {
        Self {
            text: Cow::Owned(text),
            postgres: None,
            mysql: None,
            is_prepared: false,
            is_lookup: false,
            translated: [const { OnceLock::new() }; 3],
        }
    }

    /// What PostgreSQL is told instead.
    pub(crate) const fn postgres(mut self, text: &'static str) -> Self {
        self.postgres = Some(text);
        self
    }

    /// What MySQL and MariaDB are told instead.
    pub(crate) const fn mysql(mut self, text: &'static str) -> Self {
        self.mysql = Some(text);
        self
    }

    /// One that finds few rows by a key, so that SQLite answers it sooner than another thread is awake.
    pub(crate) const fn lookup(mut self) -> Self {
        self.is_lookup = true;
        self
    }

    pub(super) fn is_lookup(&self) -> bool {
        self.is_lookup
    }

    pub(super) fn is_prepared(&self) -> bool {
        self.is_prepared
    }

    pub(super) fn translated(&self, dialect: Dialect) -> &Translated {
        self.translated[dialect as usize].get_or_init(|| {
            let text = match dialect {
                Dialect::Sqlite => &*self.text,
                Dialect::Postgres => self.postgres.unwrap_or(&self.text),
                Dialect::Mysql => self.mysql.unwrap_or(&self.text),
            };
            translate(&expand(text, dialect), dialect)
        })
    }
}

/// Writes out what has a name in braces.
fn expand(text: &str, dialect: Dialect) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        expanded.push_str(before);
        let (name, after) = after.split_once('}').unwrap_or((after, ""));
        let (name, argument) = name.split_once('?').unwrap_or((name, ""));
        expanded.push_str(&fragment(name.trim_end(), argument, dialect));
        rest = after;
    }
    expanded.push_str(rest);
    expanded
}

fn fragment(name: &str, argument: &str, dialect: Dialect) -> String {
    use Dialect::{Mysql, Postgres, Sqlite};
    let text = match (name, dialect) {
        ("now", Sqlite) => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
        ("now", Postgres) => "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)",
        ("now", Mysql) => "CAST(unix_timestamp(now(3)) * 1000 AS SIGNED)",
        ("for update", Sqlite) => "",
        ("for update", _) => "FOR UPDATE",
        ("list", Sqlite) => "(SELECT key AS n, value FROM json_each(?))",
        ("list", Postgres) => {
            "(SELECT n, value FROM json_array_elements_text(CAST(? AS JSON)) \
             WITH ORDINALITY AS j (value, n))"
        }
        ("list", Mysql) => {
            "JSON_TABLE(?, '$[*]' COLUMNS (n FOR ORDINALITY, value LONGTEXT PATH '$'))"
        }
        ("ids", Sqlite) => "(SELECT value AS id FROM json_each(?))",
        ("ids", Postgres) => {
            "(SELECT CAST(value AS BIGINT) AS id FROM json_array_elements_text(CAST(? AS JSON)) \
             AS j (value))"
        }
        ("ids", Mysql) => "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$'))",
        ("pairs", Sqlite) => "(SELECT value ->> 0 AS id, value ->> 1 AS run FROM json_each(?))",
        ("pairs", Postgres) => {
            "(SELECT CAST(value ->> 0 AS BIGINT) AS id, CAST(value ->> 1 AS BIGINT) AS run \
             FROM json_array_elements(CAST(? AS JSON)) AS j (value))"
        }
        ("pairs", Mysql) => {
            "JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$[0]', run BIGINT PATH '$[1]'))"
        }
        // The server says which statement it does not understand.
        (unknown, _) => return format!("{{{unknown}}}"),
    };
    text.replacen('?', &format!("?{argument}"), 1)
}

/// Writes the placeholders as the dialect has them.
fn translate(text: &str, dialect: Dialect) -> Translated {
    let mut translated = String::with_capacity(text.len() + 16);
    let mut binds = Vec::new();
    let mut is_quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        is_quoted ^= character == '\'';
        let is_placeholder =
            character == '?' && !is_quoted && characters.peek().is_some_and(char::is_ascii_digit);
        if !is_placeholder || dialect == Dialect::Sqlite {
            translated.push(character);
            continue;
        }
        let mut number = 0;
        while let Some(digit) = characters.peek().and_then(|c| c.to_digit(10)) {
            number = number * 10 + digit as usize;
            characters.next();
        }
        match dialect {
            Dialect::Postgres => translated.push_str(&format!("${number}")),
            _ => {
                translated.push('?');
                binds.push(number - 1);
            }
        }
    }
    Translated {
        text: translated.into(),
        binds,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(statement: &Statement, dialect: Dialect) -> (String, Vec<usize>) {
        let translated = statement.translated(dialect);
        (translated.text.to_string(), translated.binds.clone())
    }

    #[test]
    fn placeholders_are_those_of_the_dialect() {
        let statement = Statement::new("SELECT ?2 || '?1', ?12, ?2 WHERE a ->> 0 = ?1");
        let (sqlite, _) = text(&statement, Dialect::Sqlite);
        assert_eq!(sqlite, "SELECT ?2 || '?1', ?12, ?2 WHERE a ->> 0 = ?1");
        let (postgres, _) = text(&statement, Dialect::Postgres);
        assert_eq!(postgres, "SELECT $2 || '?1', $12, $2 WHERE a ->> 0 = $1");
        let (mysql, binds) = text(&statement, Dialect::Mysql);
        assert_eq!(mysql, "SELECT ? || '?1', ?, ? WHERE a ->> 0 = ?");
        assert_eq!(binds, [1, 11, 1, 0]);
    }

    #[test]
    fn what_has_a_name_is_written_out() {
        let statement =
            Statement::new("UPDATE x SET a = {now} WHERE id IN (SELECT id FROM {ids ?3})")
                .mysql("UPDATE x JOIN {ids ?3} j SET a = {now}");
        let (sqlite, _) = text(&statement, Dialect::Sqlite);
        assert!(sqlite.contains("json_each(?3)"), "{sqlite}");
        let (postgres, _) = text(&statement, Dialect::Postgres);
        assert!(postgres.contains("CAST($3 AS JSON)"), "{postgres}");
        let (mysql, binds) = text(&statement, Dialect::Mysql);
        assert!(mysql.starts_with("UPDATE x JOIN JSON_TABLE(?,"), "{mysql}");
        assert_eq!(binds, [2]);
        assert!(!format!("{sqlite}{postgres}{mysql}").contains('{'));
    }
}
