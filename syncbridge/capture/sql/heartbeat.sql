-- What syncbridge writes on the source: one small schema with two small tables.
-- Every pipeline has one row in each table.
--   heartbeat: written every second; its way to Redis is the lag (DESIGN P6).
--   watermark: committed before each snapshot chunk is read; it places the chunk in the binlog (DESIGN P3).
-- name: create-schema
CREATE DATABASE IF NOT EXISTS syncbridge
-- name: create-heartbeat
CREATE TABLE IF NOT EXISTS syncbridge.heartbeat (
    pipeline VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    written_us BIGINT NOT NULL
) ENGINE=InnoDB
-- name: create-watermark
CREATE TABLE IF NOT EXISTS syncbridge.watermark (
    pipeline VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    token BIGINT NOT NULL,
    written_us BIGINT NOT NULL
) ENGINE=InnoDB
-- name: write-heartbeat
INSERT INTO syncbridge.heartbeat (pipeline, token, written_us) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE token = VALUES(token), written_us = VALUES(written_us)
-- name: write-watermark
INSERT INTO syncbridge.watermark (pipeline, token, written_us) VALUES (%s, %s, %s)
ON DUPLICATE KEY UPDATE token = VALUES(token), written_us = VALUES(written_us)
-- name: see-watermark
SELECT 1 FROM syncbridge.watermark WHERE pipeline = %s AND token >= %s
