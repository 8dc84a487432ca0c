"""`python -m kleaktrace`."""

from kleaktrace.cli import main

main()
