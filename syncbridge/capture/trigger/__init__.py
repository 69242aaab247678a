"""Capture without the binlog: triggers write each change into an outbox table, in the user's own transaction."""
