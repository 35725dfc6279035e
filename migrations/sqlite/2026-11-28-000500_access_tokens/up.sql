-- Sessions of HTTP and tokens for programs. A secret is known to its holder alone.
CREATE TABLE access_tokens (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    -- hex SHA-256 of the secret, which is random
    secret_hash VARCHAR(64) NOT NULL UNIQUE,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- hex SHA-256 of the secret and of what ends it when it changes: the password, and how often the user was disabled
    user_stamp VARCHAR(64) NOT NULL,
    -- that the user gave; NULL for a session
    name VARCHAR(64),
    created_at DATETIME NOT NULL,
    -- to the minute
    last_used_at DATETIME,
    -- NULL: never
    expires_at DATETIME
);

CREATE INDEX access_tokens_by_user ON access_tokens (user_id);
