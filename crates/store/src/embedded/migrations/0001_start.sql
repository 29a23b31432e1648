-- Times are microseconds since the Unix epoch; durations are microseconds; ids are the 16 bytes of the UUID.
-- What a state's number means is written in rows.rs and nowhere else; 2 is in flight, 3 is delivered.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row: what every batch counts.
CREATE TABLE totals (
    one           INTEGER PRIMARY KEY CHECK (one = 1),
    events        INTEGER NOT NULL,
    repeats       INTEGER NOT NULL,
    next_sequence INTEGER NOT NULL
) STRICT;
INSERT INTO totals VALUES (1, 0, 0, 1);

-- Applications and sources by small numbers, so that an event's row stays small.
CREATE TABLE parties (
    number INTEGER PRIMARY KEY,
    id     BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE events (
    sequence    INTEGER PRIMARY KEY,
    id          BLOB NOT NULL,
    application INTEGER NOT NULL,
    source      INTEGER NOT NULL,
    provider_id TEXT,
    type        TEXT,
    occurred_at INTEGER,
    accepted_at INTEGER NOT NULL,
    body_bytes  INTEGER NOT NULL,
    checksum    INTEGER NOT NULL,
    routed      INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX events_by_id ON events (id);
CREATE INDEX events_unrouted ON events (source, sequence) WHERE routed = 0;

-- Apart from the events, so that lists and retention do not read bodies.
CREATE TABLE bodies (
    sequence INTEGER PRIMARY KEY,
    headers  BLOB NOT NULL,
    body     BLOB NOT NULL
) STRICT;

CREATE TABLE repeats (
    sequence    INTEGER PRIMARY KEY,
    repeats     INTEGER NOT NULL,
    conflicting INTEGER NOT NULL
) STRICT;

CREATE TABLE dedupe (
    key        BLOB PRIMARY KEY,
    first      BLOB NOT NULL,
    body       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
-- The newest marks, in the order they were set: see marks.rs.
CREATE TABLE marks_even (
    number     INTEGER PRIMARY KEY,
    key        BLOB NOT NULL,
    first      BLOB NOT NULL,
    body       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE TABLE marks_odd (
    number     INTEGER PRIMARY KEY,
    key        BLOB NOT NULL,
    first      BLOB NOT NULL,
    body       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE deliveries (
    key                 INTEGER PRIMARY KEY,
    destination         INTEGER NOT NULL,
    state               INTEGER NOT NULL,
    due_at              INTEGER,
    accepted_at         INTEGER NOT NULL,
    attempt             INTEGER NOT NULL,
    counted             INTEGER NOT NULL,
    first_attempt_at    INTEGER,
    touched_at          INTEGER NOT NULL,
    breaker_open_before INTEGER NOT NULL,
    replay              BLOB,
    settled_at          INTEGER,
    cause               TEXT
) STRICT;
CREATE INDEX deliveries_due ON deliveries (destination, due_at, key) WHERE due_at IS NOT NULL;
-- All that is not delivered, by state: the lists, the oldest that waits, and what is in flight at a start.
CREATE INDEX deliveries_by_state ON deliveries (state, destination, key) WHERE state <> 3;

CREATE TABLE attempts (
    delivery   INTEGER NOT NULL,
    number     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    duration   INTEGER NOT NULL,
    outcome    TEXT NOT NULL,
    error      TEXT,
    headers    BLOB NOT NULL,
    body       BLOB NOT NULL,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE quarantine (
    number      INTEGER PRIMARY KEY AUTOINCREMENT,
    id          BLOB NOT NULL UNIQUE,
    source      BLOB NOT NULL,
    received_at INTEGER NOT NULL,
    cause       TEXT NOT NULL,
    peer        TEXT NOT NULL,
    method      TEXT NOT NULL,
    target      TEXT NOT NULL,
    body_bytes  INTEGER NOT NULL,
    bytes       INTEGER NOT NULL
) STRICT;
CREATE INDEX quarantine_by_peer ON quarantine (source, peer, bytes);
CREATE TABLE quarantine_bodies (
    number  INTEGER PRIMARY KEY,
    headers BLOB NOT NULL,
    body    BLOB NOT NULL
) STRICT;

CREATE TABLE rejected (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    at     INTEGER NOT NULL,
    source BLOB,
    status INTEGER NOT NULL,
    cause  TEXT NOT NULL,
    detail TEXT NOT NULL,
    peer   TEXT NOT NULL,
    method TEXT NOT NULL,
    path   TEXT NOT NULL,
    count  INTEGER NOT NULL
) STRICT;

CREATE TABLE topology (
    kind     INTEGER NOT NULL,
    id       BLOB NOT NULL,
    document TEXT NOT NULL,
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    number   INTEGER PRIMARY KEY,
    at       INTEGER NOT NULL,
    actor    TEXT NOT NULL,
    action   TEXT NOT NULL,
    subject  TEXT NOT NULL,
    document TEXT
) STRICT;

CREATE TABLE health (
    destination INTEGER PRIMARY KEY,
    document    TEXT NOT NULL
) STRICT;

CREATE TABLE counters (
    destination INTEGER NOT NULL,
    state       INTEGER NOT NULL,
    n           INTEGER NOT NULL,
    PRIMARY KEY (destination, state)
) STRICT, WITHOUT ROWID;

CREATE TABLE replays (
    number     INTEGER PRIMARY KEY,
    id         BLOB NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    new_id     INTEGER NOT NULL,
    document   TEXT NOT NULL,
    state      INTEGER NOT NULL,
    looked_at  INTEGER NOT NULL,
    replayed   INTEGER NOT NULL,
    skipped    INTEGER NOT NULL,
    total      INTEGER NOT NULL,
    cursor     INTEGER NOT NULL,
    ended_at   INTEGER
) STRICT;

-- Long work that goes on in bounded steps, and goes on after a crash.
CREATE TABLE continuations (
    number  INTEGER PRIMARY KEY,
    kind    INTEGER NOT NULL,
    subject INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    -- Of a matching: the first and the last destination number that were new.
    first   INTEGER NOT NULL,
    last    INTEGER NOT NULL,
    cursor  INTEGER NOT NULL
) STRICT;
