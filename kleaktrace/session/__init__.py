# SPDX-License-Identifier: GPL-2.0-or-later
"""A tracing session: events from a source, drained into a recording."""
