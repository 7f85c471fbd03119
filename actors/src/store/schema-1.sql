-- Identifiers are blobs of their own width, times Unix milliseconds.

-- Updates that the chain announced, one for each bounty.
CREATE TABLE announcements (
    bounty  BLOB PRIMARY KEY NOT NULL, -- address of the contract, 20 bytes
    product BLOB NOT NULL,             -- vendor id and class id, 32 bytes
    version INTEGER NOT NULL,          -- SUIT sequence number, as a signed 64-bit integer
    vendor  BLOB NOT NULL,             -- the vendor's Ethereum address, 20 bytes
    terms   BLOB NOT NULL,             -- what the chain says, CBOR
    root    BLOB,                      -- the package's root block, once fetched and checked
    vk      BLOB,                      -- the verifying key, once fetched and checked
    seen_at INTEGER NOT NULL           -- when it was first read
) STRICT, WITHOUT ROWID;

-- Verified offers for which receipts are asked.
CREATE TABLE offers (
    bounty BLOB NOT NULL REFERENCES announcements,
    s      BLOB NOT NULL,              -- lock, 32 bytes
    peer   BLOB NOT NULL,              -- the distributor's peer id
    payee  BLOB NOT NULL,              -- who is paid, 20 bytes
    body   BLOB NOT NULL,              -- the whole offer, CBOR
    PRIMARY KEY (bounty, s)
) STRICT, WITHOUT ROWID;

-- Receipts from asking to acknowledgement, one row for each attempt.
CREATE TABLE receipts (
    bounty  BLOB NOT NULL REFERENCES announcements,
    device  BLOB NOT NULL,             -- the sensor's key, 33 bytes
    s       BLOB NOT NULL,             -- lock of the offer, 32 bytes
    attempt INTEGER NOT NULL,          -- from 1
    sig     BLOB,                      -- the sensor's signature, once it came, 64 bytes
    acked   INTEGER NOT NULL,          -- 1 once the distributor has it
    PRIMARY KEY (bounty, device, s, attempt)
) STRICT, WITHOUT ROWID;

-- All other facts of exchanges, one for each slot.
CREATE TABLE records (
    bounty BLOB NOT NULL REFERENCES announcements,
    kind   INTEGER NOT NULL,           -- number of the record's kind
    slot   BLOB NOT NULL,              -- device, offer or peer
    body   BLOB NOT NULL,              -- the record, CBOR
    PRIMARY KEY (bounty, kind, slot)
) STRICT, WITHOUT ROWID;

-- Sensors, as each was last heard.
CREATE TABLE sensors (
    device        BLOB PRIMARY KEY NOT NULL, -- its key, 33 bytes
    product       BLOB NOT NULL,       -- vendor id and class id, 32 bytes
    curve         INTEGER NOT NULL,    -- 1 secp256k1, 2 P-256
    installed     INTEGER NOT NULL,    -- sequence number that runs
    slot          INTEGER NOT NULL,    -- bytes of the free slot
    wake          INTEGER NOT NULL,    -- seconds from one waking to the next
    carrier       TEXT NOT NULL,       -- mqtt or coap
    authenticated INTEGER NOT NULL,    -- 1 if the carrier knew that it was this device
    state         INTEGER,             -- LwM2M 5/0/3, once told
    result        INTEGER,             -- LwM2M 5/0/5, once told
    next          INTEGER,             -- next byte of the image that it wants, once told
    last_seen     INTEGER NOT NULL     -- when it was last heard and something had changed
) STRICT, WITHOUT ROWID;

-- Images on disk.
CREATE TABLE staged (
    u_id      BLOB PRIMARY KEY NOT NULL, -- digest, 32 bytes
    size      INTEGER NOT NULL,        -- bytes
    staged_at INTEGER NOT NULL         -- when
) STRICT, WITHOUT ROWID;
