# SPDX-License-Identifier: GPL-2.0-or-later
"""From keys and addresses to words: symbols, call stacks, caches, programs, and who asked for memory."""
