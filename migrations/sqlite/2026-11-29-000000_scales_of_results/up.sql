-- Results of which a user knows how long something in them is.
CREATE TABLE result_scales (
    glb_id INTEGER NOT NULL PRIMARY KEY REFERENCES glb_files (id) ON DELETE CASCADE,
    meters_per_unit DOUBLE NOT NULL
);
