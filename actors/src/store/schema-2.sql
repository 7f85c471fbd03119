-- What somebody ordered for an update: for all sensors, or for those of a group. The verb is approve, too.
CREATE TABLE orders (
    bounty BLOB NOT NULL REFERENCES announcements,
    scope  TEXT NOT NULL,              -- name of the group; empty for all
    verb   TEXT NOT NULL,              -- pause or cancel
    PRIMARY KEY (bounty, scope)
) STRICT, WITHOUT ROWID;

-- How often an update failed on a sensor.
CREATE TABLE failures (
    bounty BLOB NOT NULL REFERENCES announcements,
    device BLOB NOT NULL,              -- the sensor's key, 33 bytes
    count  INTEGER NOT NULL,           -- from 1
    PRIMARY KEY (bounty, device)
) STRICT, WITHOUT ROWID;
