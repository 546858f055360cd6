-- Pipelines that run, or did, as tasks.

CREATE TABLE pipelines (
    task    BIGINT PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    run     BIGINT NOT NULL, -- whose numbers these are
    version BIGINT NOT NULL, -- counts changes of the numbers
    wanted  TEXT NOT NULL, -- JSON: held, drained, tapped
    graph   TEXT, -- JSON: its nodes and edges
    seen    TEXT -- JSON: what they have done
);
