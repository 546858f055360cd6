-- Pipelines that run, or did, as tasks.

CREATE TABLE pipelines (
    task    INTEGER PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    run     INTEGER NOT NULL, -- whose numbers these are
    version INTEGER NOT NULL, -- counts changes of the numbers
    wanted  TEXT NOT NULL, -- JSON: held, drained, tapped
    graph   TEXT, -- JSON: its nodes and edges
    seen    TEXT -- JSON: what they have done
) STRICT;
