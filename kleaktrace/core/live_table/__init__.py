# SPDX-License-Identifier: GPL-2.0-or-later
"""Outstanding memory as a table that is looked at again and again: its rows, their order, and what each is about."""
