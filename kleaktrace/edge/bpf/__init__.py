# SPDX-License-Identifier: GPL-2.0-or-later
"""BPF programs: compiled, kept, loaded and attached."""
