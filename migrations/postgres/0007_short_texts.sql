-- Outputs that are short texts, without a file.

ALTER TABLE files ADD COLUMN content TEXT COLLATE "C"; -- all of it; its key names nothing in the file store then
