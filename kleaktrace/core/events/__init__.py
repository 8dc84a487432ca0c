"""What the probes report: records, their clock, and what could not be seen."""
