# SPDX-License-Identifier: GPL-2.0-or-later
"""Everything that touches the running kernel."""
