-- Trigger capture over the UDF: what `syncbridge triggers install` creates on the source with `transport: udf`.
-- Each statement follows a line "-- name:"; the words in braces are those of outbox.sql, whose outbox table is the
-- fallback, and {function}, the queue function, as a string literal.
-- The call happens before COMMIT and is not undone by ROLLBACK, so the job says only that the row may have changed.
-- gman_do_background gives NULL when no job server took the job, and fails when the library is gone: either way the
-- change goes into the outbox, in the user's own transaction. It never waits longer than the library's time-outs.
-- name: insert
CREATE TRIGGER {trigger} AFTER INSERT ON {table} FOR EACH ROW
BEGIN
    DECLARE written BIGINT DEFAULT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED);
    DECLARE hint, handle LONGTEXT CHARACTER SET utf8mb4;
    BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET handle = NULL;
        SET hint = JSON_OBJECT('us', written, 'op', 'c', 'db', {db}, 'name', {name},
            'new_key', {new_key}, 'new_row', {new});
        IF hint IS NOT NULL THEN SET handle = gman_do_background({function}, hint); END IF;
    END;
    IF handle IS NULL THEN
        INSERT INTO {outbox} (written_us, op, db, name, new_key, new_row)
        VALUES (written, 'c', {db}, {name}, {new_key}, {new});
    END IF;
END
-- name: update
CREATE TRIGGER {trigger} AFTER UPDATE ON {table} FOR EACH ROW
BEGIN
    DECLARE written BIGINT DEFAULT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED);
    DECLARE hint, handle LONGTEXT CHARACTER SET utf8mb4;
    BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET handle = NULL;
        SET hint = JSON_OBJECT('us', written, 'op', 'u', 'db', {db}, 'name', {name},
            'old_key', {old_key}, 'new_key', {new_key}, 'old_row', {old}, 'new_row', {new});
        IF hint IS NOT NULL THEN SET handle = gman_do_background({function}, hint); END IF;
    END;
    IF handle IS NULL THEN
        INSERT INTO {outbox} (written_us, op, db, name, old_key, new_key, old_row, new_row)
        VALUES (written, 'u', {db}, {name}, {old_key}, {new_key}, {old}, {new});
    END IF;
END
-- name: delete
CREATE TRIGGER {trigger} AFTER DELETE ON {table} FOR EACH ROW
BEGIN
    DECLARE written BIGINT DEFAULT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS SIGNED);
    DECLARE hint, handle LONGTEXT CHARACTER SET utf8mb4;
    BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET handle = NULL;
        SET hint = JSON_OBJECT('us', written, 'op', 'd', 'db', {db}, 'name', {name},
            'old_key', {old_key}, 'old_row', {old});
        IF hint IS NOT NULL THEN SET handle = gman_do_background({function}, hint); END IF;
    END;
    IF handle IS NULL THEN
        INSERT INTO {outbox} (written_us, op, db, name, old_key, old_row)
        VALUES (written, 'd', {db}, {name}, {old_key}, {old});
    END IF;
END
