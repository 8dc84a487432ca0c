# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes report: records, their clock, and what could not be seen."""
