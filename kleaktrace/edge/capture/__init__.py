# SPDX-License-Identifier: GPL-2.0-or-later
"""Captures in files: written while a session runs, packed, and read back."""
