-- Pipelines that run, or did, as tasks.

CREATE TABLE IF NOT EXISTS pipelines (
    task    BIGINT NOT NULL PRIMARY KEY,
    run     BIGINT NOT NULL, -- whose numbers these are
    version BIGINT NOT NULL, -- counts changes of the numbers
    wanted  LONGTEXT NOT NULL, -- JSON: held, drained, tapped
    graph   LONGTEXT, -- JSON: its nodes and edges
    seen    LONGTEXT, -- JSON: what they have done
    CONSTRAINT pipelines_task FOREIGN KEY (task) REFERENCES tasks (id) ON DELETE CASCADE
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
