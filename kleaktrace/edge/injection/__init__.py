# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes allocations of the running kernel fail, by what it has for that."""
