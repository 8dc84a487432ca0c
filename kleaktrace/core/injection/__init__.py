# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations that were made to fail, one in each run, and what each run left behind."""
