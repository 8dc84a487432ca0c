# SPDX-License-Identifier: GPL-2.0-or-later
"""What is outstanding, what was freed, and counters for each call stack."""
