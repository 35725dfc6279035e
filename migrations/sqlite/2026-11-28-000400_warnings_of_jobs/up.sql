-- What is to be known of a job: a JSON array of objects.
CREATE TABLE job_warnings (
    job_id INTEGER NOT NULL PRIMARY KEY REFERENCES jobs (id) ON DELETE CASCADE,
    warnings_json TEXT NOT NULL
);
