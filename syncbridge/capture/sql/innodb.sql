-- What InnoDB knows of its tables. It writes names as the server names files: a character that is none of [A-Za-z0-9_]
-- is @ and two more, or @ and four hex digits; aux, con and the like get @@@ at their end; a partition is a table of
-- its own, with #P#<partition> behind the table's name. MySQL's CONVERT knows no `filename`, so every such character
-- becomes @ here, and is compared so. A temporary table's name starts with #, which leaves the database alone.
-- name: table-ids
SELECT
    REGEXP_REPLACE(
        REGEXP_REPLACE(SUBSTRING_INDEX(name, '#', 1), '@@@(?=/|$)', ''), '@([0-9a-f]{4}|..)', '@'
    ) AS plain,
    table_id
FROM information_schema.innodb_tables
HAVING plain IN %s
