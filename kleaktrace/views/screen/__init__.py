# SPDX-License-Identifier: GPL-2.0-or-later
"""The interactive screen of `trace`: widgets and keys. What it shows comes from a `Feed`."""
