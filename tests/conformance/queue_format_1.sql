-- What the version before format 2 created; the migration starts from it.

-- format: number of this layout; queue_id: 32 hex digits, random, given once; next_id: first job id never used.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- Function names, numbered to keep job rows short.
CREATE TABLE function (
    id   INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE
);

-- Totals of `job`, kept in the same transaction, so that a start counts nothing.
CREATE TABLE backlog (
    function_id INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    jobs        INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    PRIMARY KEY (function_id, priority)
) WITHOUT ROWID;

-- One row per background job; the key is the order in which a function's jobs are handed out (priority 0 high, 1, 2).
CREATE TABLE job (
    function_id INTEGER NOT NULL,
    priority    INTEGER NOT NULL,
    id          INTEGER NOT NULL,
    uniq        BLOB    NOT NULL,
    join_key    BLOB,              -- NULL: no later submit joins this job
    submitted   INTEGER NOT NULL,  -- microseconds since 1970
    attempts    INTEGER NOT NULL,  -- deliveries without an answer
    payload     BLOB    NOT NULL,  -- zero-length for an empty payload
    PRIMARY KEY (function_id, priority, id)
) WITHOUT ROWID;

CREATE INDEX job_join ON job (function_id, join_key) WHERE join_key IS NOT NULL;
