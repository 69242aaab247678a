-- Queue database (SQLite), format 1 to 2. Runs inside one transaction, with @SCHEMA@ replaced by the CREATE
-- statements of schema.sql that follow its table `meta`: a crash in the middle leaves format 1.
-- Format 1 had function (id, name), backlog (function_id, priority, jobs, bytes) and
-- job (function_id, priority, id, uniq, join_key, submitted, attempts, payload).

DROP INDEX job_join;
ALTER TABLE job RENAME TO job_1;

@SCHEMA@

INSERT INTO place (function, priority, state, jobs, bytes)
SELECT name, priority, 0, jobs, bytes
FROM backlog JOIN function ON function.id = function_id
WHERE jobs > 0
ORDER BY function_id, priority;

-- CROSS JOIN: place by place, each in the order of its ids, so that the new rows are appended.
INSERT INTO job (id, submitted, payload, uniq, join_key, attempts)
SELECT place.id << 45 | job_1.id, submitted, payload, nullif(uniq, x''), join_key, nullif(attempts, 0)
FROM place CROSS JOIN function ON function.name = place.function
    CROSS JOIN job_1 ON function_id = function.id AND job_1.priority = place.priority
ORDER BY place.id, job_1.id;

DROP TABLE job_1;
DROP TABLE backlog;
DROP TABLE function;
UPDATE meta SET value = 2 WHERE name = 'format';
