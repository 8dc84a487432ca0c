# SPDX-License-Identifier: GPL-2.0-or-later
"""From frames to lines of source code: what is asked of debug information, and what it answers."""
