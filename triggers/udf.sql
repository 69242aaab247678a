-- Trigger capture over the UDF: what `syncbridge triggers install` creates on the source with `transport: udf`.
-- Each statement follows a line "-- name:"; the words in braces are those of outbox.sql, whose outbox table is the
-- fallback, {members}, which are {columns} and {values} in pairs, and {function}, the queue function as a string literal.
-- The call happens before COMMIT and is not undone by ROLLBACK, so the job says only that the row may have changed.
-- gman_do_background gives NULL when no job server took the job, and fails when the library is gone: either way the
-- change goes into the outbox, in the user's own transaction. It never waits longer than the library's time-outs.
-- Each variable and statement more costs every row about half a microsecond, a LONGTEXT one.
-- name: report
CREATE TRIGGER {trigger} AFTER {action} ON {table} FOR EACH ROW
BEGIN
    DECLARE hint LONGTEXT CHARACTER SET utf8mb4;
    DECLARE handle VARCHAR(255) CHARACTER SET utf8mb4;
    BEGIN
        DECLARE CONTINUE HANDLER FOR SQLEXCEPTION SET handle = NULL;
        SET hint = JSON_OBJECT('us', CAST(@@timestamp * 1000000 AS SIGNED), 'op', {op},
                               'db', {db}, 'name', {name}, {members});
        IF hint IS NOT NULL THEN SET handle = gman_do_background({function}, hint); END IF;
    END;
    IF handle IS NULL THEN
        INSERT INTO {outbox} (written_us, op, db, name, {columns})
        VALUES (CAST(@@timestamp * 1000000 AS SIGNED), {op}, {db}, {name}, {values});
    END IF;
END
