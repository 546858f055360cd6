-- Several processes, queues, and what a task knows of its dispatch. The tables are made anew, so that what
-- may be long still stands last. `webhook_digests` is a temporary table that the migration fills before.

CREATE TABLE tasks_2 (
    id              INTEGER PRIMARY KEY AUTOINCREMENT, -- in URLs: never given twice
    state           TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    run             INTEGER NOT NULL,                  -- counts dispatches: the fence
    attempts        INTEGER NOT NULL,                  -- lost runs of the current step
    failures        INTEGER NOT NULL,                  -- runs of the current step in which the plugin failed
    version         INTEGER NOT NULL,                  -- counts changes
    last_write      INTEGER NOT NULL,                  -- random number of the last change: recognises a commit whose answer was lost
    queue           TEXT    NOT NULL,                  -- its workers take it
    origin          TEXT    NOT NULL,                  -- the process that queued it last
    holder          TEXT,                              -- the process that runs it, or ended it
    priority        INTEGER NOT NULL,                  -- the greater, the sooner
    submitter       TEXT    NOT NULL,                  -- those of one priority take turns
    run_at          INTEGER,                           -- not before
    retries         INTEGER,                           -- how often it is run again when the plugin fails
    timeout_ms      INTEGER,                           -- how long one run may take
    created_at      INTEGER NOT NULL,
    queued_at       INTEGER NOT NULL,                  -- last, by the clock of the database
    finished_at     INTEGER,
    caller          INTEGER REFERENCES tasks_2 (id) ON DELETE SET NULL, -- the task that called it
    depth           INTEGER NOT NULL,                  -- callers above it
    output_count    INTEGER NOT NULL,                  -- rows of kind 'output' in files
    log_length      INTEGER NOT NULL,                  -- bytes of the whole log
    plugin          TEXT    NOT NULL,
    digest          TEXT    NOT NULL,
    base_url        TEXT    NOT NULL,
    idempotency_key TEXT,                              -- by what its request is known when it comes again
    fingerprint     TEXT,                              -- of that request
    progress        TEXT,                              -- JSON, as the next five
    step            TEXT,
    steps           TEXT    NOT NULL,
    links           TEXT    NOT NULL,
    labels          TEXT    NOT NULL,
    data            TEXT,
    parameters      TEXT    NOT NULL,
    log             TEXT    NOT NULL                   -- its first part, up to 16 KiB; the rest is in task_log
) STRICT;

INSERT INTO tasks_2 (id, state, run, attempts, failures, version, last_write, queue, origin, holder, priority,
    submitter, run_at, retries, timeout_ms, created_at, queued_at, finished_at, caller, depth, output_count,
    log_length, plugin, digest, base_url, idempotency_key, fingerprint, progress, step, steps, links, labels,
    data, parameters, log)
SELECT id, state, run, attempts, 0, version, 0, 'runner', '', holder, CASE WHEN depth > 0 THEN 3 ELSE 1 END,
    '', NULL, NULL, NULL, created_at, created_at, finished_at, caller, depth, output_count,
    log_length, plugin, digest, base_url, NULL, NULL, progress, step, steps, links, labels,
    data, parameters, log
FROM tasks;

DELETE FROM sqlite_sequence WHERE name = 'tasks_2';
INSERT INTO sqlite_sequence (name, seq) SELECT 'tasks_2', seq FROM sqlite_sequence WHERE name = 'tasks';
DROP TABLE tasks;
ALTER TABLE tasks_2 RENAME TO tasks;

-- What a start has to look at, however many tasks have ended; and lists by state.
CREATE INDEX tasks_state ON tasks (state, id);
CREATE INDEX tasks_caller ON tasks (caller) WHERE caller IS NOT NULL;
CREATE UNIQUE INDEX tasks_idempotency_key ON tasks (idempotency_key);

DROP INDEX files_key;
ALTER TABLE files RENAME COLUMN key TO file_key;
CREATE UNIQUE INDEX files_key ON files (file_key);

ALTER TABLE descriptions RENAME COLUMN key TO module_key;

CREATE TABLE subscriptions_2 (
    id             INTEGER PRIMARY KEY,
    task           INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    webhook_digest TEXT    NOT NULL, -- SHA-256 of the webhook, which may be too long for an index
    event          TEXT    NOT NULL CHECK (event IN ('', 'status', 'steps', 'details')), -- '': all of them
    webhook        TEXT    NOT NULL
) STRICT;

INSERT INTO subscriptions_2 (id, task, webhook_digest, event, webhook)
SELECT s.id, s.task, d.digest, s.event, s.webhook
FROM subscriptions s JOIN webhook_digests d ON d.webhook = s.webhook;
DROP TABLE subscriptions;
ALTER TABLE subscriptions_2 RENAME TO subscriptions;
CREATE UNIQUE INDEX subscriptions_once ON subscriptions (task, webhook_digest, event);

CREATE TABLE deliveries_2 (
    id             INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which a webhook is told
    task           INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    webhook_digest TEXT    NOT NULL,
    event          TEXT    NOT NULL CHECK (event IN ('status', 'steps', 'details')),
    attempts       INTEGER NOT NULL,
    due_at         INTEGER NOT NULL, -- by the clock of the database, as all times here
    holder         TEXT,             -- the process that sends it
    leased_until   INTEGER,          -- after this another process may send it
    gave_up_at     INTEGER,          -- it is not tried any more
    webhook        TEXT    NOT NULL,
    last_error     TEXT
) STRICT;

INSERT INTO deliveries_2 (id, task, webhook_digest, event, attempts, due_at, holder, leased_until, gave_up_at,
    webhook, last_error)
SELECT s.id, s.task, d.digest, s.event, s.attempts, s.due_at, NULL, NULL, NULL, s.webhook, NULL
FROM deliveries s JOIN webhook_digests d ON d.webhook = s.webhook;
DELETE FROM sqlite_sequence WHERE name = 'deliveries_2';
INSERT INTO sqlite_sequence (name, seq) SELECT 'deliveries_2', seq FROM sqlite_sequence WHERE name = 'deliveries';
DROP TABLE deliveries;
ALTER TABLE deliveries_2 RENAME TO deliveries;
CREATE INDEX deliveries_due ON deliveries (due_at);
CREATE INDEX deliveries_target ON deliveries (task, webhook_digest, id);

DROP TABLE temp.webhook_digests;

-- The processes that take or make tasks. All times are the database's.
CREATE TABLE workers (
    id          TEXT    PRIMARY KEY NOT NULL, -- given anew at each start of a process
    kind        TEXT    NOT NULL CHECK (kind IN ('server', 'worker', 'both')),
    queue       TEXT    NOT NULL,
    host        TEXT    NOT NULL,
    pid         INTEGER NOT NULL,
    concurrency INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    beat_at     INTEGER NOT NULL,
    stopped_at  INTEGER,                      -- it ended in peace, and its jobs are safe
    plugins     TEXT    NOT NULL              -- JSON
) STRICT;

-- What is known of the broker's memory of each queue.
CREATE TABLE queues (
    name        TEXT PRIMARY KEY NOT NULL,
    incarnation TEXT NOT NULL,
    adopted_by  TEXT NOT NULL -- the process that saw this incarnation first
) STRICT;

-- The file store that belongs to this database, so that no process works with another one.
CREATE TABLE file_stores (
    name   TEXT PRIMARY KEY NOT NULL, -- there is one, 'files'
    marker TEXT NOT NULL,    -- stands in it as well
    host   TEXT NOT NULL,    -- where it was seen first
    path   TEXT NOT NULL
) STRICT;
