"""What each call stack left behind, round by round, and the test for it."""
