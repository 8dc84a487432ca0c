"""Leaks that Linux once had, brought back, to see who finds them. `tools/museum` is the command."""
