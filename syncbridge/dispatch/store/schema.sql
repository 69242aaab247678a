-- The queue database (SQLite), format 2.
-- Written by store/sqlite.py in one transaction per group commit; read at start and when a window is refilled.

-- format: number of this layout; queue_id: 32 hex digits, random, given once; next_id: first job id never used.
CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value NOT NULL
) WITHOUT ROWID;

-- Where jobs lie, and the totals of each place, kept in the same transaction so that a start counts nothing.
-- Places without jobs are swept out and their numbers given again.
CREATE TABLE place (
    id       INTEGER PRIMARY KEY,  -- below 2^18
    function BLOB    NOT NULL,
    priority INTEGER NOT NULL,     -- 0 high, 1 normal, 2 low
    state    INTEGER NOT NULL,     -- 0 ready, 1 scheduled, 2 dead
    jobs     INTEGER NOT NULL,
    bytes    INTEGER NOT NULL,     -- of payload
    UNIQUE (function, priority, state)
);

-- One row per background job. The row number holds place (upper 18 bits) and job id (lower 45): jobs of a place lie
-- side by side in the order in which they are handed out, new ones are appended, finished ones go as ranges.
-- What most jobs do not have is NULL and costs one byte.
CREATE TABLE job (
    id        INTEGER PRIMARY KEY,
    submitted INTEGER NOT NULL,  -- microseconds since 1970
    payload   BLOB    NOT NULL,  -- zero-length for an empty payload
    uniq      BLOB,
    join_key  BLOB,              -- NULL: no later submit joins this job
    attempts  INTEGER,           -- deliveries without an answer
    reducer   BLOB,
    state     INTEGER,           -- as its place's, NULL for ready
    due       INTEGER,           -- microseconds since 1970: when it is due (scheduled) or died (dead)
    note      BLOB               -- why it is dead
);

CREATE INDEX job_join ON job (join_key) WHERE join_key IS NOT NULL;

-- Scheduled and dead jobs of all places by time, then job id (35184372088831 = 2^45 - 1).
CREATE INDEX job_due ON job (state, due, id & 35184372088831) WHERE state IS NOT NULL;

-- How background jobs ended, until `expires`.
CREATE TABLE result (
    id          INTEGER PRIMARY KEY,  -- the job's
    function    BLOB    NOT NULL,
    uniq        BLOB    NOT NULL,
    outcome     INTEGER NOT NULL,     -- packet type: WORK_COMPLETE, WORK_FAIL, WORK_EXCEPTION
    numerator   BLOB    NOT NULL,
    denominator BLOB    NOT NULL,
    data        BLOB    NOT NULL,
    finished    INTEGER NOT NULL,     -- microseconds since 1970
    expires     INTEGER NOT NULL
);

CREATE INDEX result_expires ON result (expires);

-- What the server remembers beside jobs.
CREATE TABLE setting (
    name  BLOB PRIMARY KEY,
    value BLOB NOT NULL
) WITHOUT ROWID;
