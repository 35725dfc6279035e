-- Addresses from which a user has logged in: attacks from elsewhere do not slow down logins from there.
CREATE TABLE known_addresses (
    user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    -- an IPv4 address, or the first 64 bits of an IPv6 address as x:x:x:x::
    address VARCHAR(64) NOT NULL,
    last_login_at DATETIME NOT NULL,
    PRIMARY KEY (user_id, address)
);

-- How often a user was disabled: sessions from before the last time do not continue once the user is enabled again.
CREATE TABLE session_ends (
    user_id INTEGER NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    count INTEGER NOT NULL
);
