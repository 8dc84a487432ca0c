# SPDX-License-Identifier: GPL-2.0-or-later
"""The guest: building its kernel, booting it, and running a command in it. `tools/guest` is the program."""
