DROP TABLE job_warnings;
