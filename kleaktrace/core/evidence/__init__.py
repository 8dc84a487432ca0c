"""What verdicts go by: suspects, rounds, siblings, and what they have in common."""
