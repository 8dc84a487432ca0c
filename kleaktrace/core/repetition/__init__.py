# SPDX-License-Identifier: GPL-2.0-or-later
"""What each call stack left behind, round by round, and the test for it."""
