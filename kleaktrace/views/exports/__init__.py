# SPDX-License-Identifier: GPL-2.0-or-later
"""What other programs read: one module for each of their formats."""
