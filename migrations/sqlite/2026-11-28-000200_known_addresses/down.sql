DROP TABLE session_ends;
DROP TABLE known_addresses;
