"""Tracing the running kernel: which probes, what they report, and names for it."""
