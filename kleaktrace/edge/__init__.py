"""Everything that touches the running kernel."""
