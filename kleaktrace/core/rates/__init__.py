"""Who allocates, frees and grows how fast."""
