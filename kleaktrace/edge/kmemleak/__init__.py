"""kmemleak of the running kernel: its file, why it is off, and what would blind it."""
