# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read on a terminal."""
