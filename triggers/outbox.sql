-- Trigger capture over an outbox table: what `syncbridge triggers install` creates on the source.
-- Each statement follows a line "-- name:"; words in braces are filled in by syncbridge/capture/trigger/render.py:
--   {outbox}    the pipeline's outbox table              {trigger}  the trigger's name, in the table's own schema
--   {table}     the mapped table, quoted                 {db} {name}  its schema and name as string literals
--   {action}    INSERT, UPDATE or DELETE                 {op}       c, u or d, as a string literal
--   {columns}   old_key, new_key, old_row, new_row: those that the action has
--   {values}    for each of them JSON_OBJECT of the key's columns, or of all columns
-- The row a trigger writes commits or rolls back with the user's change, and ids ascend in the order in which changes of
-- one row commit, because the row's lock is held from before the id is taken until the commit.
-- @@timestamp is when the statement began, since 1970; UNIX_TIMESTAMP(NOW(6)) is an hour wrong where clocks are set back.
-- A row too large for JSON_OBJECT (max_allowed_packet) leaves NULL there: capture then reads the row itself again.
-- name: create-schema
CREATE DATABASE IF NOT EXISTS syncbridge
-- name: create-outbox
CREATE TABLE IF NOT EXISTS {outbox} (
    id         BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
    written_us BIGINT NOT NULL,
    op         CHAR(1) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    db         VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    name       VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    old_key    LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    new_key    LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    old_row    LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin,
    new_row    LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin
) ENGINE=InnoDB
-- name: report
CREATE TRIGGER {trigger} AFTER {action} ON {table} FOR EACH ROW
INSERT INTO {outbox} (written_us, op, db, name, {columns})
VALUES (CAST(@@timestamp * 1000000 AS SIGNED), {op}, {db}, {name}, {values})
