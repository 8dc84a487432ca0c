# SPDX-License-Identifier: GPL-2.0-or-later
"""What a capture holds: which tables, how a recording becomes rows of them, and how rows become a recording again."""
