-- Ties the database to its folder of files, which holds the same identifier. One row, from the first use of a folder.
CREATE TABLE identity (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    -- 32 random hex digits
    identifier VARCHAR(32) NOT NULL,
    created_at DATETIME NOT NULL
);

-- Files whose rows are gone, from the transaction that removed the row until the file is removed: a server that starts
-- removes what its predecessor did not come to.
CREATE TABLE removed_files (
    file_path VARCHAR(512) NOT NULL PRIMARY KEY
);

-- Number and size of a user's files without a look at their rows.
CREATE INDEX glb_files_by_size ON glb_files (user_id, file_size);
