"""What is outstanding, what was freed, and counters for each call stack."""
