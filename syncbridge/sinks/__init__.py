"""Sinks: from lane jobs to keys in Redis, each applied only where it is newer (DESIGN P2, P5, P7)."""
