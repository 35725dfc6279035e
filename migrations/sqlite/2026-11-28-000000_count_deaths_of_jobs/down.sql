DROP TABLE kept_inputs;
ALTER TABLE jobs DROP COLUMN next_try_at;
ALTER TABLE jobs DROP COLUMN tries;
ALTER TABLE jobs DROP COLUMN deaths;
