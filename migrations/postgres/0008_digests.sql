-- Which versions of modules a process has.

ALTER TABLE workers ADD COLUMN digests TEXT COLLATE "C"; -- JSON: the digest of its module by the identifier of each plugin
