"""BPF programs: compiled, kept, loaded and attached."""
