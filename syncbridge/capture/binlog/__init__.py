"""The binlog: packets to events, events to items, rows to values. Pure but for stream.py."""
