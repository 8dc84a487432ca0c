# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine's own counters of memory, and how long to wait for them."""
