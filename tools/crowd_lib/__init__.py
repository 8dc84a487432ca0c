# SPDX-License-Identifier: GPL-2.0-or-later
"""The crowd: what kleaktrace says of ordinary modules that come and go."""
