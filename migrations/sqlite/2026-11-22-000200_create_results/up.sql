-- What the same user gets for the same input, options and weights.
CREATE TABLE results (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- hex SHA-256 of inputs, options and weights
    input_key VARCHAR(64) NOT NULL,
    glb_id INTEGER NOT NULL REFERENCES glb_files (id) ON DELETE CASCADE,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (user_id, input_key)
);

CREATE INDEX results_by_glb ON results (glb_id);
