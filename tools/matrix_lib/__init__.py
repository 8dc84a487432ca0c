# SPDX-License-Identifier: GPL-2.0-or-later
"""What works on which kernel, as runs show it. `tools/matrix` is the program."""
