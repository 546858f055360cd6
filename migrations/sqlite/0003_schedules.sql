-- Work that comes again, and what is done once for all processes now and then.

CREATE TABLE schedules (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT NOT NULL, -- unique in its queue
    queue      TEXT NOT NULL, -- its workers fire it
    owner      TEXT, -- the module that declared it
    declared   TEXT, -- digest of what it declared
    enabled    INTEGER NOT NULL, -- 0 or 1
    version    INTEGER NOT NULL, -- counts changes: the fence
    last_write INTEGER NOT NULL, -- random number of the last change: recognises a commit whose answer was lost
    due_at     INTEGER, -- when it is due next, by the clock of the database, as all times here
    next_at    INTEGER, -- when it is fired: then, or later by its jitter
    pending    INTEGER NOT NULL, -- firings that wait for the end of its task
    last_at    INTEGER, -- when it was fired last
    last_task  INTEGER, -- the task that it made last, which may be gone
    created_at INTEGER NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('cron', 'interval')),
    expression TEXT NOT NULL,
    time_zone  TEXT NOT NULL,
    jitter_ms  INTEGER NOT NULL,
    anchor     INTEGER NOT NULL, -- where intervals begin
    overlap    TEXT NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    missed     TEXT NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    priority   INTEGER NOT NULL, -- of its tasks, as the next two
    retries    INTEGER,
    timeout_ms INTEGER,
    plugin     TEXT NOT NULL,
    base_url   TEXT NOT NULL,
    last_error TEXT,
    labels     TEXT NOT NULL, -- JSON, as the next
    parameters TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX schedules_name ON schedules (queue, name);
CREATE INDEX schedules_next ON schedules (next_at);

-- What one process does for all of them.
CREATE TABLE housekeeping (
    name         TEXT PRIMARY KEY NOT NULL,
    next_at      INTEGER NOT NULL, -- when it is to be done again, by the clock of the database, as all times here
    holder       TEXT, -- the process that does it
    leased_until INTEGER, -- after this another process may do it
    finished_at  INTEGER, -- when it was done last
    report       TEXT NOT NULL -- JSON: what it did then
) STRICT;
