DROP INDEX glb_files_by_age;
DROP INDEX jobs_by_end;
