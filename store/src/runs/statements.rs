//! The updates of tasks. Each sets the same columns; what belongs to a change comes with it on PostgreSQL, where each
//! statement is a trip to the server.

use crate::sql::Statement;

/// What every change sets; arguments 1 to 21. `log` stands before `log_length`, since MySQL sees what was set before.
macro_rules! set_columns {
    () => {
        "state = ?1, finished_at = ?3, version = version + 1, last_write = ?20, progress = ?4, step = ?5, \
         steps = ?6, links = ?7, data = ?8, run = ?16, attempts = ?17, failures = ?18, run_at = ?19, ran_by = ?21, \
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

macro_rules! for_sqlite {
    ($of:expr) => {
        concat!(
            "UPDATE tasks SET ",
            set_columns!(),
            "log_length = log_length + ?10, ",
            $of,
            " RETURNING log_length, EXISTS (SELECT 1 FROM subscriptions WHERE task = tasks.id)"
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
             JOIN {list ?23} e ON s.event IN ('', e.value) ORDER BY e.n, s.id) \
             SELECT log_length, EXISTS (SELECT 1 FROM subscriptions s WHERE s.task = hit.id) FROM hit"
        )
    };
}

macro_rules! outputs_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, \
         file_key, tag, name, data_type, content_type, size, digest, url, content) \
         SELECT hit.id, 'output', ?15, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
         CAST(value ->> 5 AS BIGINT), value ->> 6, value ->> 7, value ->> 8 \
         FROM hit, json_array_elements(CAST(?22 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

macro_rules! uploads_of_postgres {
    () => {
        "made AS (INSERT INTO files (task, kind, created_at, data_type, file_key, name, content_type, size) \
         SELECT hit.id, 'upload', ?15, '', value ->> 0, value ->> 1, value ->> 2, \
         CAST(value ->> 3 AS BIGINT) \
         FROM hit, json_array_elements(CAST(?22 AS JSON)) WITH ORDINALITY AS j (value, n) ORDER BY n), "
    };
}

pub(super) static UPDATE_RUN: Statement = Statement::new(for_sqlite!(of_run!()))
    .postgres(for_postgres!(of_run!(), outputs_of_postgres!()))
    .mysql(for_mysql!(of_run!()));

pub(super) static UPDATE_PAGE: Statement = Statement::new(for_sqlite!(of_page!()))
    .postgres(for_postgres!(of_page!(), uploads_of_postgres!()))
    .mysql(for_mysql!(of_page!()));

/// Where the update cannot bring them.
pub(super) static INSERT_OUTPUTS: Statement = Statement::new(
    "INSERT INTO files (task, kind, created_at, file_key, tag, name, data_type, content_type, size, digest, url, content) \
     SELECT ?1, 'output', ?2, value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, \
     value ->> 5, value ->> 6, value ->> 7, value ->> 8 FROM json_each(?3) WHERE true ORDER BY json_each.key \
     RETURNING id, file_key",
)
.mysql(
    "INSERT INTO files (task, kind, created_at, file_key, tag, name, data_type, content_type, size, digest, url, content) \
     SELECT ?1, 'output', ?2, j.file_key, j.tag, j.name, j.data_type, j.content_type, j.size, j.digest, j.url, j.content \
     FROM JSON_TABLE(?3, '$[*]' COLUMNS (n FOR ORDINALITY, file_key VARCHAR(64) PATH '$[0]', \
     tag VARCHAR(64) PATH '$[1]', name LONGTEXT PATH '$[2]', data_type LONGTEXT PATH '$[3]', \
     content_type LONGTEXT PATH '$[4]', size BIGINT PATH '$[5]', digest LONGTEXT PATH '$[6]', url LONGTEXT PATH '$[7]', \
     content LONGTEXT PATH '$[8]')) j \
     ORDER BY j.n",
);
