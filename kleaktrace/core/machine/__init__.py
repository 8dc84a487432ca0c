"""The machine's own counters of memory, and how long to wait for them."""
