"""From keys and addresses to words: symbols, call stacks, caches, programs, and who asked for memory."""
