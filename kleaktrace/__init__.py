# SPDX-License-Identifier: GPL-2.0-or-later
"""kleaktrace: kernel memory leaks as they happen, and a verdict on every kmemleak suspect."""

__version__ = "0.1.0"
