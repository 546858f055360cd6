-- Work that comes again, and what is done once for all processes now and then.

CREATE TABLE IF NOT EXISTS schedules (
    id         BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       VARCHAR(400) NOT NULL, -- unique in its queue
    queue      VARCHAR(255) NOT NULL, -- its workers fire it
    owner      VARCHAR(255), -- the module that declared it
    declared   CHAR(64), -- digest of what it declared
    enabled    BIGINT NOT NULL, -- 0 or 1
    version    BIGINT NOT NULL, -- counts changes: the fence
    last_write BIGINT NOT NULL, -- random number of the last change: recognises a commit whose answer was lost
    due_at     BIGINT, -- when it is due next, by the clock of the database, as all times here
    next_at    BIGINT, -- when it is fired: then, or later by its jitter
    pending    BIGINT NOT NULL, -- firings that wait for the end of its task
    last_at    BIGINT, -- when it was fired last
    last_task  BIGINT, -- the task that it made last, which may be gone
    created_at BIGINT NOT NULL,
    kind       VARCHAR(16) NOT NULL CHECK (kind IN ('cron', 'interval')),
    expression LONGTEXT NOT NULL,
    time_zone  LONGTEXT NOT NULL,
    jitter_ms  BIGINT NOT NULL,
    anchor     BIGINT NOT NULL, -- where intervals begin
    overlap    VARCHAR(16) NOT NULL CHECK (overlap IN ('skip', 'queue', 'cancel', 'allow')),
    missed     VARCHAR(16) NOT NULL CHECK (missed IN ('skip', 'once', 'all')),
    priority   BIGINT NOT NULL, -- of its tasks, as the next two
    retries    BIGINT,
    timeout_ms BIGINT,
    plugin     LONGTEXT NOT NULL,
    base_url   LONGTEXT NOT NULL,
    last_error LONGTEXT,
    labels     LONGTEXT NOT NULL, -- JSON, as the next
    parameters LONGTEXT NOT NULL,
    UNIQUE KEY schedules_name (queue, name),
    KEY schedules_next (next_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- What one process does for all of them.
CREATE TABLE IF NOT EXISTS housekeeping (
    name         VARCHAR(64) NOT NULL PRIMARY KEY,
    next_at      BIGINT NOT NULL, -- when it is to be done again, by the clock of the database, as all times here
    holder       VARCHAR(64), -- the process that does it
    leased_until BIGINT, -- after this another process may do it
    finished_at  BIGINT, -- when it was done last
    report       LONGTEXT NOT NULL -- JSON: what it did then
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
