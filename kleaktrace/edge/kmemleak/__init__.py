# SPDX-License-Identifier: GPL-2.0-or-later
"""kmemleak of the running kernel: its file, why it is off, and what would blind it."""
