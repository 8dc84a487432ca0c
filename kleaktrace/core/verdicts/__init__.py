# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules: what becomes of each suspect, and why."""
