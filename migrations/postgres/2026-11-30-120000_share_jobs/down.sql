DROP TABLE workers;
DROP TRIGGER job_changed ON jobs;
DROP FUNCTION job_changed;
DROP TABLE job_turns;
DROP SEQUENCE job_turn;
DROP INDEX jobs_by_dir;
ALTER TABLE jobs
    DROP COLUMN priority, DROP COLUMN size, DROP COLUMN input_bytes, DROP COLUMN tied, DROP COLUMN queued_at, DROP COLUMN not_before,
    DROP COLUMN token, DROP COLUMN worker, DROP COLUMN lease_until, DROP COLUMN progress_json;
