"""Preflight: facts are gathered by gather*.py (IO), judged by the other modules (pure: facts in, findings out)."""
