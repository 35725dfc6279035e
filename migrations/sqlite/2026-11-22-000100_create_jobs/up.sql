CREATE TABLE jobs (
    -- Clients hold these numbers: none is given twice.
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- images or video
    kind VARCHAR(16) NOT NULL,
    original_name VARCHAR(256) NOT NULL,
    options_json TEXT NOT NULL,
    input_key VARCHAR(64) NOT NULL,
    -- folder of the input files, relative to <out_root>/.jobs
    dir VARCHAR(512) NOT NULL,
    state VARCHAR(16) NOT NULL DEFAULT 'queued'
        CHECK (state IN ('queued', 'running', 'done', 'failed', 'cancelled')),
    -- of the result, when done
    hashed_name VARCHAR(64),
    -- why not, when failed
    reason TEXT,
    created_at DATETIME NOT NULL,
    started_at DATETIME,
    finished_at DATETIME
);

CREATE INDEX jobs_by_user ON jobs (user_id);
-- The few that are not over, whatever has piled up behind them.
CREATE INDEX jobs_pending ON jobs (id) WHERE state IN ('queued', 'running');
