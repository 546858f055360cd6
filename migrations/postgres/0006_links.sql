-- Outputs whose content stands elsewhere.

ALTER TABLE files ADD COLUMN url TEXT COLLATE "C"; -- where; its key names nothing in the file store then
