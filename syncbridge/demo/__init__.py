"""`syncbridge demo`: private servers, a small shop, live changes, both sides shown (its command: commands/demo.py).

It stands outside the pipeline: it runs `syncbridge run` as users do and compares the two sides with code of its own.
`process.py`, `mariadb.py` and `redis.py`, the private servers, also serve the tests.
"""
