-- What people are owed by e-mail, oldest first.
CREATE TABLE notices (
    number   INTEGER PRIMARY KEY,
    id       BLOB NOT NULL UNIQUE,
    document TEXT NOT NULL
) STRICT;
