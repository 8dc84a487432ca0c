"""A tracing session: events from a source, drained into a recording."""
