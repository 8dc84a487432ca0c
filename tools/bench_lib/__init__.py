"""What `tools/bench` measures, a module for each part; docs/benchmarks.md says what the figures mean."""
