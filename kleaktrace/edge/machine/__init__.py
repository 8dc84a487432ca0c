"""The machine around the kernel's allocators: counters, processes, logs."""
