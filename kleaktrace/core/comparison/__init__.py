# SPDX-License-Identifier: GPL-2.0-or-later
"""Two recordings side by side: what has changed from the one to the other, by more than chance explains."""
