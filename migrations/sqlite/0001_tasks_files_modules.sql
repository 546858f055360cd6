-- Times are milliseconds since 1970 (UTC). JSON columns are text. What is read most stands first, what
-- may be long stands last, so that the fence of a write does not read overflow pages.

CREATE TABLE tasks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- in URLs: never given twice
    state        TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    run          INTEGER NOT NULL,                  -- counts dispatches: the fence
    attempts     INTEGER NOT NULL,                  -- lost runs of the current step
    version      INTEGER NOT NULL,                  -- counts changes
    holder       TEXT,                              -- the worker that has it, while it is running
    created_at   INTEGER NOT NULL,
    finished_at  INTEGER,
    caller       INTEGER REFERENCES tasks (id) ON DELETE SET NULL, -- the task that called it
    depth        INTEGER NOT NULL,                  -- callers above it
    output_count INTEGER NOT NULL,                  -- rows of kind 'output' in files
    log_length   INTEGER NOT NULL,                  -- bytes of the whole log
    plugin       TEXT    NOT NULL,
    digest       TEXT    NOT NULL,
    base_url     TEXT    NOT NULL,
    progress     TEXT,                              -- JSON, as the next five
    step         TEXT,
    steps        TEXT    NOT NULL,
    links        TEXT    NOT NULL,
    labels       TEXT    NOT NULL,
    data         TEXT,
    parameters   TEXT    NOT NULL,
    log          TEXT    NOT NULL                   -- its first 16 KiB; the rest is in task_log
) STRICT;

-- What a start has to look at, however many tasks have ended; and lists by state.
CREATE INDEX tasks_state ON tasks (state, id);

CREATE INDEX tasks_caller ON tasks (caller) WHERE caller IS NOT NULL;

-- Labels again, to find tasks by them.
CREATE TABLE task_labels (
    label TEXT    NOT NULL,
    task  INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    PRIMARY KEY (label, task)
) STRICT, WITHOUT ROWID;

CREATE INDEX task_labels_task ON task_labels (task);

CREATE TABLE task_log (
    task      INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    from_byte INTEGER NOT NULL, -- where it begins in the whole log
    text      TEXT    NOT NULL,
    PRIMARY KEY (task, from_byte)
) STRICT;

CREATE TABLE files (
    id           INTEGER PRIMARY KEY,
    task         INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind IN ('output', 'upload')),
    key          TEXT    NOT NULL, -- in the file store
    tag          TEXT,             -- secret part of the URL; uploads have none
    name         TEXT    NOT NULL,
    data_type    TEXT    NOT NULL,
    content_type TEXT    NOT NULL,
    size         INTEGER NOT NULL,
    digest       TEXT,             -- SHA-256, hexadecimal; NULL where it was not taken
    created_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX files_task ON files (task);
CREATE UNIQUE INDEX files_key ON files (key);

CREATE TABLE subscriptions (
    id      INTEGER PRIMARY KEY,
    task    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    webhook TEXT    NOT NULL,
    event   TEXT    NOT NULL CHECK (event IN ('', 'status', 'steps', 'details')), -- '': all of them
    UNIQUE (task, webhook, event)
) STRICT;

CREATE TABLE deliveries (
    id       INTEGER PRIMARY KEY AUTOINCREMENT, -- the order in which a webhook is told
    task     INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    webhook  TEXT    NOT NULL,
    event    TEXT    NOT NULL CHECK (event IN ('status', 'steps', 'details')),
    attempts INTEGER NOT NULL,
    due_at   INTEGER NOT NULL
) STRICT;

CREATE INDEX deliveries_due ON deliveries (due_at);
CREATE INDEX deliveries_target ON deliveries (task, webhook, id);

-- What modules answered to `describe`, by a digest of all that the answer depends on.
CREATE TABLE descriptions (
    key         TEXT    PRIMARY KEY,
    description TEXT    NOT NULL,
    stored_at   INTEGER NOT NULL
) STRICT;

-- Digests of the files of modules, valid while the file is as it was.
CREATE TABLE file_digests (
    device      INTEGER NOT NULL,
    inode       INTEGER NOT NULL,
    size        INTEGER NOT NULL,
    modified_ns INTEGER NOT NULL,
    changed_ns  INTEGER NOT NULL,
    digest      TEXT    NOT NULL,
    PRIMARY KEY (device, inode)
) STRICT, WITHOUT ROWID;
