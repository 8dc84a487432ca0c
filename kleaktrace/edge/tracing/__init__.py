# SPDX-License-Identifier: GPL-2.0-or-later
"""Tracing the running kernel: which probes, what they report, and names for it."""
