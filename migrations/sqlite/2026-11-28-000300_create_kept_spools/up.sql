-- Results in the form from which other files are made without the network: a folder beside the GLB of each.
CREATE TABLE kept_spools (
    glb_id INTEGER NOT NULL PRIMARY KEY REFERENCES glb_files (id) ON DELETE CASCADE,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- of all files in the folder
    bytes BIGINT NOT NULL
);

CREATE INDEX kept_spools_by_user ON kept_spools (user_id, bytes);
