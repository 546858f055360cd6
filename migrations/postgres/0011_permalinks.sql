-- Cells that a short address leads to.

CREATE TABLE permalinks (
    query     TEXT PRIMARY KEY, -- random: what stands in the address
    digest    TEXT NOT NULL UNIQUE, -- SHA-256 of what it leads to, hexadecimal
    read_at   BIGINT NOT NULL, -- about when it was made or read last
    code      TEXT NOT NULL,
    language  TEXT NOT NULL,
    interacts TEXT NOT NULL -- JSON, as clients wrote it
);

CREATE INDEX permalinks_read ON permalinks (read_at);
