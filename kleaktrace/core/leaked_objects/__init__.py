# SPDX-License-Identifier: GPL-2.0-or-later
"""What the confirmed leaks are: causes, what hangs on them, and what they hold."""
