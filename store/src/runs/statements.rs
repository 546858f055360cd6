//! The updates of tasks. Each sets the same columns; what belongs to a change comes with it where the dialect can.

use crate::sql::Statement;

/// What every change sets; arguments 1 to 20. `log` stands before `log_length`, since MySQL sees what was set before.
macro_rules! set_columns {
    () => {
        "state = ?1, finished_at = ?3, version = version + 1, last_write = ?20, progress = ?4, step = ?5, \
         steps = ?6, links = ?7, data = ?8, run = ?16, attempts = ?17, failures = ?18, run_at = ?19, \
         origin = CASE ?1 WHEN 'queued' THEN ?2 ELSE origin END, \
         queued_at = CASE ?1 WHEN 'queued' THEN {now} ELSE queued_at END, \
         output_count = output_count + ?9, \
         log = CASE WHEN log_length + ?10 <= ?11 THEN log || ?12 ELSE log END, "
    };
}

macro_rules! of_run {
    () => {
        "holder = CASE ?1 WHEN 'queued' THEN NULL ELSE ?2 END \
         WHERE id = ?13 AND run = ?14 AND state IN ('queued', 'running') \
         AND (holder IS NULL OR holder = ?2)"
    };
}

macro_rules! of_page {
    () => {
        "holder = CASE ?1 WHEN 'queued' THEN NULL ELSE holder END WHERE id = ?13 AND version = ?14"
    };
}

// After the first statement of a text for SQLite, arguments are `$13`: for `?13` sqlx counts those before it that the
// statement does not use, over the whole text, and leaves the rest null when it has counted as many as there are.
macro_rules! outputs_of_sqlite {
    () => {
        // Only if the statement before it hit a row.
        "; INSERT INTO files (task, kind, created_at, \
         file_key, tag, name, data_type, content_type, size, digest, url) \
         SELECT $13, 'output', $15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         value ->> 5, value ->> 6, value ->> 7 FROM json_each($21) WHERE changes() > 0 ORDER BY json_each.key \
         RETURNING id, file_key"
    };
}

macro_rules! uploads_of_sqlite {
    () => {
        "; INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
         SELECT $13, 'upload', $15, '', value ->> 0, value ->> 1, value ->> 2, value ->> 3 \
         FROM json_each($21) WHERE changes() > 0 ORDER BY json_each.key"
    };
}

macro_rules! for_sqlite {
    ($of:expr, $with:expr) => {
        concat!(
            "UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)",
            $with
        )
    };
}

/// A transaction of its own with all that belongs to the change. After the files, which have the last say in
/// `changes()`, the random number in the row tells whether it was hit.
macro_rules! alone_on_sqlite {
    ($of:expr, $files:expr) => {
        concat!(
            "BEGIN IMMEDIATE; UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)",
            $files,
            "; INSERT INTO task_log (task, from_byte, text) \
             SELECT id, log_length - $10, $12 FROM tasks \
             WHERE id = $13 AND last_write = $20 AND $12 <> '' AND log_length > $11; \
             INSERT INTO deliveries (task, webhook_digest, event, attempts, due_at, webhook) \
             SELECT s.task, s.webhook_digest, e.value, 0, {now}, s.webhook \
             FROM (SELECT key AS n, value FROM json_each($22)) e JOIN subscriptions s ON s.event IN ('', e.value) \
             WHERE s.task = (SELECT id FROM tasks WHERE id = $13 AND last_write = $20) \
             ORDER BY e.n, s.id; \
             COMMIT"
        )
    };
}

/// Length and subscription come back as that which MySQL tells of an update beside the rows that it hit.
macro_rules! for_mysql {
    ($of:expr) => {
        concat!(
            "UPDATE tasks SET ",
            set_columns!(),
            "log_length = last_insert_id((log_length + ?10) * 2 + \
             EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)) DIV 2, ",
            $of
        )
    };
}

macro_rules! for_postgres {
    ($of:expr, $files:expr) => {
        concat!(
            "WITH hit AS (UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING id, log_length), ",
            "chunks AS (INSERT INTO task_log (task, from_byte, text) \
             SELECT id, log_length - ?10, ?12 FROM hit WHERE ?12 <> '' AND log_length > ?11), ",
            $files,
            "told AS (INSERT INTO deliveries (task, webhook_digest, event, attempts, due_at, webhook) \
             SELECT s.task, s.webhook_digest, e.value, 0, {now}, s.webhook \
             FROM hit JOIN subscriptions s ON s.task = hit.id \
             JOIN {list ?22} e ON s.event IN ('', e.value) ORDER BY e.n, s.id) \
             SELECT log_length, EXISTS (SELECT 1 FROM subscriptions s WHERE s.task = hit.id) FROM hit"
        )
    };
}

macro_rules! outputs_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, \
         file_key, tag, name, data_type, content_type, size, digest, url) \
         SELECT hit.id, 'output', ?15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         CAST(value ->> 5 AS BIGINT), value ->> 6, value ->> 7 \
         FROM hit, json_array_elements(CAST(?21 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

macro_rules! uploads_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
         SELECT hit.id, 'upload', ?15, '', value ->> 0, value ->> 1, value ->> 2, \
         CAST(value ->> 3 AS BIGINT) \
         FROM hit, json_array_elements(CAST(?21 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

pub(super) static UPDATE_RUN: Statement = Statement::new(for_sqlite!(of_run!(), ""))
    .postgres(for_postgres!(of_run!(), outputs_of_postgres!()))
    .mysql(for_mysql!(of_run!()));

/// Both at once: every trip to the thread of SQLite's connection costs more than the statement.
pub(super) static UPDATE_RUN_WITH_OUTPUTS: Statement =
    Statement::new(for_sqlite!(of_run!(), outputs_of_sqlite!()))
        .postgres(for_postgres!(of_run!(), outputs_of_postgres!()))
        .mysql(for_mysql!(of_run!()));

pub(super) static UPDATE_PAGE: Statement = Statement::new(for_sqlite!(of_page!(), ""))
    .postgres(for_postgres!(of_page!(), uploads_of_postgres!()))
    .mysql(for_mysql!(of_page!()));

/// For SQLite only, as is the next.
pub(super) static RUN_ALONE: Statement =
    Statement::new(alone_on_sqlite!(of_run!(), outputs_of_sqlite!()));

pub(super) static PAGE_ALONE: Statement =
    Statement::new(alone_on_sqlite!(of_page!(), uploads_of_sqlite!()));

/// On MySQL, where the update cannot bring them.
pub(super) static INSERT_OUTPUTS: Statement = Statement::new(
    "INSERT INTO files (task, kind, created_at, file_key, tag, name, data_type, content_type, size, digest, url) \
     SELECT ?1, 'output', ?2, j.file_key, j.tag, j.name, j.data_type, j.content_type, j.size, j.digest, j.url \
     FROM JSON_TABLE(?3, '$[*]' COLUMNS (n FOR ORDINALITY, file_key VARCHAR(64) PATH '$[0]', \
     tag VARCHAR(64) PATH '$[1]', name LONGTEXT PATH '$[2]', data_type LONGTEXT PATH '$[3]', \
     content_type LONGTEXT PATH '$[4]', size BIGINT PATH '$[5]', digest LONGTEXT PATH '$[6]', url LONGTEXT PATH '$[7]')) j \
     ORDER BY j.n",
);
