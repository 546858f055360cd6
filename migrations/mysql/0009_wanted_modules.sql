-- What administrators want of modules, which all processes of a queue follow; how far each is; and which digest of its
-- module each run of a task had.

CREATE TABLE IF NOT EXISTS module_generations (
    queue      VARCHAR(255) NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL, -- grows with each change
    last_write BIGINT NOT NULL  -- random number of the last change: recognises a commit whose answer was lost
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

CREATE TABLE IF NOT EXISTS modules (
    queue      VARCHAR(255) NOT NULL,
    name       VARCHAR(255) NOT NULL,
    is_kept    BIGINT NOT NULL, -- 1: its files are in the file store; 0: those in the plugin folders of each machine
    generation BIGINT NOT NULL, -- that changed it last: the fence
    loaded     BIGINT NOT NULL, -- the generation that wanted it loaded anew
    last_write BIGINT NOT NULL,
    state      VARCHAR(64) NOT NULL CHECK (state IN ('running', 'stopped', 'removed')),
    size       BIGINT, -- of its package, as the next two; NULL unless it is kept
    file_key   VARCHAR(64),
    digest     VARCHAR(64), -- SHA-256 of the module, hexadecimal
    changed_at BIGINT NOT NULL,
    changed_by VARCHAR(255) NOT NULL, -- the process
    loader     LONGTEXT,
    path       LONGTEXT, -- where it lay
    args       LONGTEXT, -- JSON
    PRIMARY KEY (queue, name, is_kept)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;

ALTER TABLE workers ADD COLUMN generation BIGINT; -- of what is wanted of modules: as far as it followed
ALTER TABLE workers ADD COLUMN failing LONGTEXT; -- JSON: why it has not what is wanted, by the names of modules

ALTER TABLE tasks ADD COLUMN ran_by LONGTEXT; -- JSON: the digest of its module by the number of each run
