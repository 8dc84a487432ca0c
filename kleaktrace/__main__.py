# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m kleaktrace`."""

from kleaktrace.cli import main

main()
