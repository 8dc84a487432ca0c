# SPDX-License-Identifier: GPL-2.0-or-later
"""Arrays: their types, hash tables over them, and when Python need not look for garbage."""
