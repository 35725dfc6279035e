DROP TABLE draft_parts;
DELETE FROM removed_files WHERE since IS NOT NULL;
ALTER TABLE removed_files DROP COLUMN process;
ALTER TABLE removed_files DROP COLUMN since;
