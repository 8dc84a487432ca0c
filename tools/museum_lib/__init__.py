# SPDX-License-Identifier: GPL-2.0-or-later
"""Leaks that Linux once had, brought back, to see who finds them. `tools/museum` is the command."""
