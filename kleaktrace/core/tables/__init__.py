# SPDX-License-Identifier: GPL-2.0-or-later
"""A recording as tables: what is exported and asked for by SQL."""
