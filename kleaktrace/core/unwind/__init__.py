# SPDX-License-Identifier: GPL-2.0-or-later
"""How a BPF program can recognise a call stack without unwinding it."""
