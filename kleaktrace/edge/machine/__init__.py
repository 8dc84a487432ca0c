# SPDX-License-Identifier: GPL-2.0-or-later
"""The machine around the kernel's allocators: counters, processes, logs."""
