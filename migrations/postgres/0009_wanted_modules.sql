-- What administrators want of modules, which all processes of a queue follow; how far each is; and which digest of its
-- module each run of a task had.

CREATE TABLE module_generations (
    queue      TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL, -- grows with each change
    last_write BIGINT NOT NULL  -- random number of the last change: recognises a commit whose answer was lost
);

CREATE TABLE modules (
    queue      TEXT COLLATE "C" NOT NULL,
    name       TEXT COLLATE "C" NOT NULL,
    is_kept    BIGINT NOT NULL, -- 1: its files are in the file store; 0: those in the plugin folders of each machine
    generation BIGINT NOT NULL, -- that changed it last: the fence
    loaded     BIGINT NOT NULL, -- the generation that wanted it loaded anew
    last_write BIGINT NOT NULL,
    state      TEXT COLLATE "C" NOT NULL CHECK (state IN ('running', 'stopped', 'removed')),
    size       BIGINT, -- of its package, as the next two; NULL unless it is kept
    file_key   TEXT COLLATE "C",
    digest     TEXT COLLATE "C", -- SHA-256 of the module, hexadecimal
    changed_at BIGINT NOT NULL,
    changed_by TEXT COLLATE "C" NOT NULL, -- the process
    loader     TEXT COLLATE "C",
    path       TEXT COLLATE "C", -- where it lay
    args       TEXT COLLATE "C", -- JSON
    PRIMARY KEY (queue, name, is_kept)
);

ALTER TABLE workers ADD COLUMN generation BIGINT; -- of what is wanted of modules: as far as it followed
ALTER TABLE workers ADD COLUMN failing TEXT COLLATE "C"; -- JSON: why it has not what is wanted, by the names of modules

ALTER TABLE tasks ADD COLUMN ran_by TEXT COLLATE "C"; -- JSON: the digest of its module by the number of each run
