-- The tables may be older than this migration and hold what users made: they stay.
DROP INDEX IF EXISTS glb_files_by_user;
