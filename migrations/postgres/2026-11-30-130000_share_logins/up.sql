-- What the servers of one database tell each other about logins. SQLite's has one server, which keeps this in memory.
--
-- It is for minutes: unlogged, so that a login waits for no disk, and empty after PostgreSQL has crashed; `vggt migrate` leaves it
-- behind. Times are microseconds since 1970 by the clock of the database, the only one that all of them share.

-- The last login from each address, for --session-by-address.
CREATE UNLOGGED TABLE last_logins (
    address TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    -- no reference: the removal of a user and a login would wait for each other. Nobody is found under the number afterwards.
    user_id INTEGER NOT NULL,
    -- hex SHA-256 of what ends the login when it changes
    user_stamp TEXT NOT NULL,
    logged_in_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX last_logins_by_expiry ON last_logins (expires_at);

-- Failed logins, and those that are being checked, of an account, an address, or a pair of both.
CREATE UNLOGGED TABLE login_counts (
    -- "account/" with a hash of the name, "address/" with the address, or "pair/" with both
    key TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    failed INTEGER NOT NULL,
    checking INTEGER NOT NULL,
    -- of the last failed one
    failed_at BIGINT NOT NULL,
    -- of the last check
    started_at BIGINT NOT NULL,
    -- no check before
    not_before BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX login_counts_by_expiry ON login_counts (expires_at);
