# SPDX-License-Identifier: GPL-2.0-or-later
"""kmemleak's reports, and why it is on or off."""
