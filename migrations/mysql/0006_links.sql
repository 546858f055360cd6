-- Outputs whose content stands elsewhere.

ALTER TABLE files ADD COLUMN url LONGTEXT; -- where; its key names nothing in the file store then
