"""Statements in the binlog: what they did to the shape of mapped tables. Pure."""
