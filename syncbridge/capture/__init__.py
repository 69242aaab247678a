"""Capture: from the binlog of MySQL or MariaDB to change events in lanes."""
