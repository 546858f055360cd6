-- What administrators want of modules, which all processes of a queue follow; how far each is; and which digest of its
-- module each run of a task had.

CREATE TABLE module_generations (
    queue      TEXT NOT NULL PRIMARY KEY,
    generation INTEGER NOT NULL, -- grows with each change
    last_write INTEGER NOT NULL  -- random number of the last change: recognises a commit whose answer was lost
) STRICT;

CREATE TABLE modules (
    queue      TEXT NOT NULL,
    name       TEXT NOT NULL,
    is_kept    INTEGER NOT NULL, -- 1: its files are in the file store; 0: those in the plugin folders of each machine
    generation INTEGER NOT NULL, -- that changed it last: the fence
    loaded     INTEGER NOT NULL, -- the generation that wanted it loaded anew
    last_write INTEGER NOT NULL,
    state      TEXT NOT NULL CHECK (state IN ('running', 'stopped', 'removed')),
    size       INTEGER, -- of its package, as the next two; NULL unless it is kept
    file_key   TEXT,
    digest     TEXT, -- SHA-256 of the module, hexadecimal
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL, -- the process
    loader     TEXT,
    path       TEXT, -- where it lay
    args       TEXT, -- JSON
    PRIMARY KEY (queue, name, is_kept)
) STRICT;

ALTER TABLE workers ADD COLUMN generation INTEGER; -- of what is wanted of modules: as far as it followed
ALTER TABLE workers ADD COLUMN failing TEXT; -- JSON: why it has not what is wanted, by the names of modules

ALTER TABLE tasks ADD COLUMN ran_by TEXT; -- JSON: the digest of its module by the number of each run
