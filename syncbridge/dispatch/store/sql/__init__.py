"""A job store in MySQL, MariaDB or PostgreSQL, for those who have one that is looked after and backed up.

    commit()    writer.py: one connection, its lock, what became of a commit  ->  transaction.py: the statements
    the reads   reader.py: a connection of its own
    both        engine.py: what the databases differ in  ->  mysql.py, postgresql.py

The tables are in tables.py, the URL in address.py. The lock of the writing connection keeps a second server out.
"""

from syncbridge.dispatch.store.sql.store import SqlStore

__all__ = ["SqlStore"]
