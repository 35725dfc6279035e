-- How often the process died while the job ran, in a row; the third ends the job.
ALTER TABLE jobs ADD COLUMN deaths INTEGER NOT NULL DEFAULT 0;
-- How often a passing fault, such as a full disk, has stopped it.
ALTER TABLE jobs ADD COLUMN tries INTEGER NOT NULL DEFAULT 0;
-- Of a queued job: not before this time.
ALTER TABLE jobs ADD COLUMN next_try_at DATETIME;

-- Jobs that ended through no fault of their input: until then their input files are kept for the operator.
CREATE TABLE kept_inputs (
    job_id INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    keep_until DATETIME NOT NULL
);
