# SPDX-License-Identifier: GPL-2.0-or-later
"""Who allocates, frees and grows how fast."""
