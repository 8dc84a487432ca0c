# SPDX-License-Identifier: GPL-2.0-or-later
"""All call stacks of a recording side by side, and as a tree: what reports draw."""
