"""Arrays: their types, hash tables over them, and when Python need not look for garbage."""
