-- Cells that a short address leads to.

CREATE TABLE IF NOT EXISTS permalinks (
    query     VARCHAR(32) NOT NULL PRIMARY KEY, -- random: what stands in the address
    digest    CHAR(64) NOT NULL, -- SHA-256 of what it leads to, hexadecimal
    read_at   BIGINT NOT NULL, -- about when it was made or read last
    code      LONGTEXT NOT NULL,
    language  LONGTEXT NOT NULL,
    interacts LONGTEXT NOT NULL, -- JSON, as clients wrote it
    UNIQUE KEY permalinks_digest (digest),
    KEY permalinks_read (read_at)
) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_bin;
