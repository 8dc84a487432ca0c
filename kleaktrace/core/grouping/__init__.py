# SPDX-License-Identifier: GPL-2.0-or-later
"""Allocations grouped by what a reader asks for."""
