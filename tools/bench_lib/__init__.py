# SPDX-License-Identifier: GPL-2.0-or-later
"""What `tools/bench` measures, a module for each part; docs/benchmarks.md says what the figures mean."""
