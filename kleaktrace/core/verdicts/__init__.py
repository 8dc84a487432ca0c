"""The rules: what becomes of each suspect, and why."""
