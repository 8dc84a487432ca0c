# SPDX-License-Identifier: GPL-2.0-or-later
"""A session on the running kernel."""

from __future__ import annotations

from collections.abc import Callable

from kleaktrace.edge.tracing.filters import Filters
from kleaktrace.edge.tracing.tracer import Tracer
from kleaktrace.session.drain import Observer
from kleaktrace.session.session import Session


def live_session(
    filters: Filters | None = None,
    observer: Observer | None = None,
    exact_stacks: bool = False,
    pages: bool = False,
    compiling: Callable[[], None] = lambda: None,
) -> Session:
    """Attach probes to the running kernel, and drain them. Raises `EnvironmentRefusal` as `Tracer` does."""
    return Session(Tracer(filters, exact_stacks=exact_stacks, pages=pages, compiling=compiling), observer)
