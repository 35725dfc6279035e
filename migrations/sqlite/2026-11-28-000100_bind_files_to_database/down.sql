DROP INDEX glb_files_by_size;
DROP TABLE removed_files;
DROP TABLE identity;
