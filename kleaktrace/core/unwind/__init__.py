"""How a BPF program can recognise a call stack without unwinding it."""
