-- Times are milliseconds since 1970 (UTC). JSON columns are text. What is in an index is bounded. A table is
-- whole or absent, with its indexes in it, so that a migration that was cut can be applied again.

CREATE TABLE IF NOT EXISTS tasks (
    id              BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, -- in URLs: never given twice
    state           VARCHAR(16) NOT NULL CHECK (state IN ('queued', 'running', 'waiting', 'succeeded', 'failed', 'cancelled')),
    run             BIGINT NOT NULL, -- counts dispatches: the fence
    attempts        BIGINT NOT NULL, -- lost runs of the current step
    failures        BIGINT NOT NULL, -- runs of the current step in which the plugin failed
    version         BIGINT NOT NULL, -- counts changes
    last_write      BIGINT NOT NULL, -- random number of the last change: recognises a commit whose answer was lost
    queue           VARCHAR(255) NOT NULL, -- its workers take it
    origin          VARCHAR(64) NOT NULL, -- the process that queued it last
    holder          VARCHAR(64),          -- the process that runs it, or ended it
    priority        BIGINT NOT NULL,           -- the greater, the sooner
    submitter       LONGTEXT NOT NULL, -- those of one priority take turns
    run_at          BIGINT,          -- not before
    retries         BIGINT,          -- how often it is run again when the plugin fails
    timeout_ms      BIGINT,          -- how long one run may take
    created_at      BIGINT NOT NULL,
    queued_at       BIGINT NOT NULL, -- last, by the clock of the database
    finished_at     BIGINT,
    caller          BIGINT, -- the task that called it
    depth           BIGINT NOT NULL, -- callers above it
    output_count    BIGINT NOT NULL, -- rows of kind 'output' in files
    log_length      BIGINT NOT NULL, -- bytes of the whole log
    plugin          LONGTEXT NOT NULL,
    digest          LONGTEXT NOT NULL,
    base_url        LONGTEXT NOT NULL,
    idempotency_key VARCHAR(128), -- by what its request is known when it comes again
    fingerprint     VARCHAR(128), -- of that request
    progress        LONGTEXT, -- JSON, as the next five
    step            LONGTEXT,
    steps           LONGTEXT NOT NULL,
    links           LONGTEXT NOT NULL,
    labels          LONGTEXT NOT NULL,
    data            LONGTEXT,
    parameters      LONGTEXT NOT NULL,
    log             LONGTEXT NOT NULL, -- its first part, up to 16 KiB; the rest is in task_log
    KEY tasks_state (state, id),
    KEY tasks_caller (caller),
    UNIQUE KEY tasks_idempotency_key (idempotency_key),
    FOREIGN KEY (caller) REFERENCES tasks (id) ON DELETE SET NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Labels again, to find tasks by them.
CREATE TABLE IF NOT EXISTS task_labels (
    label VARBINARY(400) NOT NULL,
    task  BIGINT NOT NULL,
    PRIMARY KEY (label, task),
    KEY task_labels_task (task),
    FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS task_log (
    task      BIGINT NOT NULL,
    from_byte BIGINT NOT NULL, -- where it begins in the whole log
    text      LONGTEXT NOT NULL,
    PRIMARY KEY (task, from_byte),
    FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS files (
    id           BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    task         BIGINT NOT NULL,
    kind         VARCHAR(16) NOT NULL CHECK (kind IN ('output', 'upload')),
    file_key     VARCHAR(64) NOT NULL, -- in the file store
    tag          VARCHAR(64),          -- secret part of the URL; uploads have none
    name         LONGTEXT NOT NULL,
    data_type    LONGTEXT NOT NULL,
    content_type LONGTEXT NOT NULL,
    size         BIGINT NOT NULL,
    digest       LONGTEXT,          -- SHA-256, hexadecimal; NULL where it was not taken
    created_at   BIGINT NOT NULL,
    KEY files_task (task),
    UNIQUE KEY files_key (file_key),
    FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS subscriptions (
    id             BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    task           BIGINT NOT NULL,
    webhook_digest CHAR(64) NOT NULL, -- SHA-256 of the webhook, which may be too long for an index
    event          VARCHAR(16) NOT NULL CHECK (event IN ('', 'status', 'steps', 'details')), -- '': all of them
    webhook        LONGTEXT NOT NULL,
    UNIQUE KEY subscriptions_once (task, webhook_digest, event),
    FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS deliveries (
    id             BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, -- the order in which a webhook is told
    task           BIGINT NOT NULL,
    webhook_digest CHAR(64) NOT NULL,
    event          VARCHAR(16) NOT NULL CHECK (event IN ('status', 'steps', 'details')),
    attempts       BIGINT NOT NULL,
    due_at         BIGINT NOT NULL,  -- by the clock of the database, as all times here
    holder         VARCHAR(64), -- the process that sends it
    leased_until   BIGINT,           -- after this another process may send it
    gave_up_at     BIGINT,           -- it is not tried any more
    webhook        LONGTEXT NOT NULL,
    last_error     LONGTEXT,
    KEY deliveries_due (due_at),
    KEY deliveries_target (task, webhook_digest, id),
    FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- What modules answered to `describe`, by a digest of all that the answer depends on.
CREATE TABLE IF NOT EXISTS descriptions (
    module_key  VARCHAR(255) NOT NULL PRIMARY KEY,
    description LONGTEXT NOT NULL,
    stored_at   BIGINT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- Digests of the files of modules, valid while the file is as it was.
CREATE TABLE IF NOT EXISTS file_digests (
    device      BIGINT NOT NULL,
    inode       BIGINT NOT NULL,
    size        BIGINT NOT NULL,
    modified_ns BIGINT NOT NULL,
    changed_ns  BIGINT NOT NULL,
    digest      LONGTEXT NOT NULL,
    PRIMARY KEY (device, inode)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The processes that take or make tasks. All times are the database's.
CREATE TABLE IF NOT EXISTS workers (
    id          VARCHAR(64) NOT NULL PRIMARY KEY, -- given anew at each start of a process
    kind        VARCHAR(16) NOT NULL CHECK (kind IN ('server', 'worker', 'both')),
    queue       VARCHAR(255) NOT NULL,
    host        LONGTEXT NOT NULL,
    pid         BIGINT NOT NULL,
    concurrency BIGINT NOT NULL,
    started_at  BIGINT NOT NULL,
    beat_at     BIGINT NOT NULL,
    stopped_at  BIGINT,                       -- it ended in peace, and its jobs are safe
    plugins     LONGTEXT NOT NULL     -- JSON
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- What is known of the broker's memory of each queue.
CREATE TABLE IF NOT EXISTS queues (
    name        VARCHAR(255) NOT NULL PRIMARY KEY,
    incarnation VARCHAR(255) NOT NULL,
    adopted_by  VARCHAR(64) NOT NULL -- the process that saw this incarnation first
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

-- The file store that belongs to this database, so that no process works with another one.
CREATE TABLE IF NOT EXISTS file_stores (
    name   VARCHAR(16) NOT NULL PRIMARY KEY, -- there is one, 'files'
    marker VARCHAR(64) NOT NULL,             -- stands in it as well
    host   LONGTEXT NOT NULL,                -- where it was seen first
    path   LONGTEXT NOT NULL
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
