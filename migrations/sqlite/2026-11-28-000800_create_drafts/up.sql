-- Jobs that are made before their files arrive. Their numbers are those of `jobs`, where they get a row once they are started.
CREATE TABLE drafts (
    id INTEGER NOT NULL PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    options_json TEXT NOT NULL,
    -- folder of the files, relative to <out_root>/.jobs
    dir VARCHAR(512) NOT NULL,
    -- number of the next file, never given twice
    next_file INTEGER NOT NULL DEFAULT 0,
    created_at DATETIME NOT NULL,
    -- a day after the last byte
    expires_at DATETIME NOT NULL
);

CREATE INDEX drafts_by_user ON drafts (user_id);

CREATE TABLE draft_files (
    draft_id INTEGER NOT NULL REFERENCES drafts (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    name VARCHAR(255) NOT NULL,
    -- as the client sent it
    metadata TEXT NOT NULL,
    length BIGINT NOT NULL,
    -- so many bytes are on the disk for certain; what the file has beyond them does not count
    received BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (draft_id, number)
);
