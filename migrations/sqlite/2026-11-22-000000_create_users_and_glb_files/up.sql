-- As the Python service made them, for the databases it left behind: what exists stays as it is.
-- Dates are UTC, YYYY-MM-DD HH:MM:SS.ffffff.
CREATE TABLE IF NOT EXISTS users (
    id INTEGER NOT NULL PRIMARY KEY,
    username VARCHAR(64) NOT NULL UNIQUE,
    -- argon2id in PHC form; a plain password where the Python service wrote it and nobody has logged in since.
    password_hash VARCHAR(255) NOT NULL,
    is_vip BOOLEAN NOT NULL DEFAULT 0,
    vip_expire_time DATETIME,
    -- 1 active, 0 disabled
    status INTEGER NOT NULL DEFAULT 1,
    created_at DATETIME NOT NULL,
    updated_at DATETIME NOT NULL
);

CREATE TABLE IF NOT EXISTS glb_files (
    id INTEGER NOT NULL PRIMARY KEY,
    -- hex SHA-256 of "{user_id}:{created_at, ISO 8601}:{original_name}"
    hashed_name VARCHAR(64) NOT NULL UNIQUE,
    original_name VARCHAR(256) NOT NULL,
    -- out/YYYY-MM-DD/<hashed_name>.glb
    file_path VARCHAR(512) NOT NULL,
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    file_size INTEGER NOT NULL,
    created_at DATETIME NOT NULL,
    is_public BOOLEAN NOT NULL DEFAULT 0
);

CREATE INDEX IF NOT EXISTS glb_files_by_user ON glb_files (user_id);
