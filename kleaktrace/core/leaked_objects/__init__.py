"""What the confirmed leaks are: causes, what hangs on them, and what they hold."""
