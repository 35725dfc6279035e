-- Jobs of one database are run by workers on any number of machines. What a worker may write about a job depends on its lease.
ALTER TABLE jobs
    -- 1 of a VIP, else 0
    ADD COLUMN priority INTEGER NOT NULL DEFAULT 0,
    -- how much memory it may need, by its input: small, medium or large
    ADD COLUMN size TEXT COLLATE "C" NOT NULL DEFAULT 'small' CHECK (size IN ('small', 'medium', 'large')),
    -- of its input files, as long as it has not ended
    ADD COLUMN input_bytes BIGINT NOT NULL DEFAULT 0,
    -- a connection waits for it: a fault is told at once, not tried again
    ADD COLUMN tied BOOLEAN NOT NULL DEFAULT FALSE,
    -- since when it waits, by the clock of the database, as all times of this type
    ADD COLUMN queued_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    -- of a queued job: not before this time
    ADD COLUMN not_before TIMESTAMPTZ,
    -- how often it was taken by a worker, or taken away from one: the number that a worker got with it is the right to write
    ADD COLUMN token BIGINT NOT NULL DEFAULT 0,
    ADD COLUMN worker TEXT COLLATE "C",
    -- of a running job: after this time it is given to another worker
    ADD COLUMN lease_until TIMESTAMPTZ,
    -- of a running job: {"stage", "fraction", "seconds_left", "preview"}
    ADD COLUMN progress_json TEXT;

-- Whose input a folder is.
CREATE INDEX jobs_by_dir ON jobs (dir);

-- Who has how many running jobs, and whose turn is the longest ago.
CREATE TABLE job_turns (
    user_id INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    running INTEGER NOT NULL DEFAULT 0,
    -- a number of the sequence, at each job that is taken
    turn BIGINT NOT NULL DEFAULT 0
);

CREATE SEQUENCE job_turn;

INSERT INTO job_turns (user_id, running)
    SELECT user_id, count(*) FILTER (WHERE state = 'running') FROM jobs
    WHERE state IN ('queued', 'running') GROUP BY user_id;

-- Whatever changes the state of a job, the count of its user is exact, and workers without a job are told of one that waits, and
-- connections of the end of theirs.
CREATE FUNCTION job_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    was INTEGER := 0;
    is_now INTEGER := 0;
    owner INTEGER;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        was := (OLD.state = 'running')::INTEGER;
        owner := OLD.user_id;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        is_now := (NEW.state = 'running')::INTEGER;
        owner := NEW.user_id;
    END IF;
    IF TG_OP = 'INSERT' AND NEW.state IN ('queued', 'running') THEN
        INSERT INTO job_turns (user_id) VALUES (owner) ON CONFLICT DO NOTHING;
    END IF;
    IF was <> is_now THEN
        UPDATE job_turns SET running = running + is_now - was WHERE user_id = owner;
    END IF;
    -- Of the others' ends connections are told within a second by themselves.
    IF TG_OP <> 'DELETE' AND (NEW.state = 'queued' OR NEW.tied AND NEW.state <> 'running') THEN
        PERFORM pg_notify('vggt_jobs', '');
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER job_changed AFTER INSERT OR DELETE OR UPDATE OF state ON jobs
    FOR EACH ROW EXECUTE FUNCTION job_changed();

-- The processes that run jobs. A row whose time is long ago is of one that is gone.
CREATE TABLE workers (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version TEXT NOT NULL,
    model TEXT NOT NULL,
    device TEXT NOT NULL,
    -- which jobs it takes, as on its command line; empty: all
    labels TEXT NOT NULL,
    -- at the same time
    max_jobs INTEGER NOT NULL,
    -- it takes no more
    draining BOOLEAN NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp(),
    seen_at TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
);
