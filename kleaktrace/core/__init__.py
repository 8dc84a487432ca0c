# SPDX-License-Identifier: GPL-2.0-or-later
"""Pure: arrays and values in, arrays and values out. No files, no kernel, no clock, no printing."""
