# SPDX-License-Identifier: GPL-2.0-or-later
"""Debug information: build ids, the files that have it, and the programs that read it."""
