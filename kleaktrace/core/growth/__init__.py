# SPDX-License-Identifier: GPL-2.0-or-later
"""Call stacks that keep growing, with rates and intervals."""
