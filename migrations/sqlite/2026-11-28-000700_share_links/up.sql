-- Links under which strangers see a result: its points, and its pictures as small as the network saw them.
CREATE TABLE share_links (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- hex SHA-256 of the last part of the link, which is random
    secret_hash VARCHAR(64) NOT NULL UNIQUE,
    glb_id INTEGER NOT NULL REFERENCES glb_files (id) ON DELETE CASCADE,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- of the job that made it, which may be forgotten earlier
    options_json TEXT NOT NULL,
    created_at DATETIME NOT NULL,
    -- NULL: never
    expires_at DATETIME
);

CREATE INDEX share_links_by_glb ON share_links (glb_id);
