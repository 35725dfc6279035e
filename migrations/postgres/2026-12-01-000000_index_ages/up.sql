-- What is old is found without reading what is not.
CREATE INDEX jobs_by_end ON jobs (coalesce(finished_at, created_at)) WHERE state NOT IN ('queued', 'running');
CREATE INDEX glb_files_by_age ON glb_files (created_at, id);
