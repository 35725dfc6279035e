-- Files in an S3 bucket, which are there before their rows.

-- Of an object that is being stored: since when, and by which process. It goes when the row of the file is written, and the object
-- goes when the process has ended without that. Empty: the file is to be removed now.
ALTER TABLE removed_files ADD COLUMN since TEXT;
ALTER TABLE removed_files ADD COLUMN process TEXT;

-- The parts in which a file of a draft has arrived, each an object of its own.
CREATE TABLE draft_parts (
    draft_id BIGINT NOT NULL,
    number INTEGER NOT NULL,
    -- the byte of the file with which the part begins
    start BIGINT NOT NULL,
    length BIGINT NOT NULL,
    -- of the object, in the folder of the draft
    name TEXT NOT NULL,
    PRIMARY KEY (draft_id, number, start),
    FOREIGN KEY (draft_id, number) REFERENCES draft_files (draft_id, number) ON DELETE CASCADE
);
