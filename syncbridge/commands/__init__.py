"""The command line: one file per command group, `app.py` joins them. Nothing imports commands but commands."""
