"""Comparing source and Redis, chunk by chunk, and mending what differs: it knows both ends, so it is wiring.

keys.py and compare.py are pure; rows.py reads the source, stored.py reads Redis; verifier.py decides; repair.py asks
capture to mend.
"""
