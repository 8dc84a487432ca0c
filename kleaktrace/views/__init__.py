# SPDX-License-Identifier: GPL-2.0-or-later
"""Prints core results. No view computes a verdict."""
