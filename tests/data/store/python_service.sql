-- A database as SQLAlchemy makes it from the Python service's columns: plain passwords, nullable columns, dates of
-- DateTime, a table that this program leaves alone.
CREATE TABLE users (
	id INTEGER NOT NULL,
	username VARCHAR(64) NOT NULL,
	password_hash VARCHAR(255) NOT NULL,
	is_vip BOOLEAN,
	vip_expire_time DATETIME,
	status INTEGER,
	created_at DATETIME,
	updated_at DATETIME,
	PRIMARY KEY (id),
	UNIQUE (username)
);
CREATE TABLE models (
	id INTEGER NOT NULL,
	user_id INTEGER NOT NULL,
	name VARCHAR(128) NOT NULL,
	file_path VARCHAR(512) NOT NULL,
	preview_image VARCHAR(512),
	visibility INTEGER,
	created_at DATETIME,
	updated_at DATETIME,
	PRIMARY KEY (id),
	FOREIGN KEY(user_id) REFERENCES users (id)
);
CREATE TABLE glb_files (
	id INTEGER NOT NULL,
	hashed_name VARCHAR(64) NOT NULL,
	original_name VARCHAR(256) NOT NULL,
	file_path VARCHAR(512) NOT NULL,
	user_id INTEGER NOT NULL,
	file_size INTEGER NOT NULL,
	created_at DATETIME,
	is_public BOOLEAN,
	PRIMARY KEY (id),
	UNIQUE (hashed_name),
	FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO users VALUES (1, 'alice', 'geheim', 1, NULL, 1, '2025-03-04 05:06:07.000890', '2025-03-04 05:06:07.000890');
INSERT INTO users VALUES (2, 'bob', 'builder', 0, NULL, 0, '2025-03-05 05:06:07', '2025-03-05T05:06:07');
INSERT INTO users VALUES (3, 'carol', 'karussell', 1, '2025-06-01 00:00:00.000000', 1, '2025-03-06 05:06:07.000000', NULL);
INSERT INTO users VALUES (4, 'dörte', 'schlüssel ß', 1, '2999-06-01T00:00:00', 1, NULL, NULL);
INSERT INTO users VALUES (7, 'erwin', '', NULL, NULL, 1, NULL, NULL);
INSERT INTO glb_files VALUES (5, '8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4', 'images_1741064767.glb',
	'out/2025-03-04/8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4.glb', 1, 12,
	'2025-03-04 05:06:07.000890', 0);
INSERT INTO models VALUES (1, 4, 'chair', 'out/2025-03-04/2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae.glb', NULL, 1, NULL, NULL);
