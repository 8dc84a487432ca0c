"""Call stacks that keep growing, with rates and intervals."""
