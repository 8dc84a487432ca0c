# SPDX-License-Identifier: GPL-2.0-or-later
"""One module per command: parse options, run edge and core, hand the result to a view."""
