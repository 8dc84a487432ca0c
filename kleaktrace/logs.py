# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens inside, told on standard error to whoever asks: `-v`, or KLEAKTRACE_LOG=debug."""

from __future__ import annotations

import logging
import os
import sys

from kleaktrace.errors import UsageError

VARIABLE = "KLEAKTRACE_LOG"
_LEVELS = ("debug", "info", "warning", "error")
_ROOT = logging.getLogger("kleaktrace")


def configure(verbose: bool) -> None:
    """Show the log: all of it if `verbose`, else what the environment asks for. Raises `UsageError` for a bad level."""
    wanted = "debug" if verbose else os.environ.get(VARIABLE, "").lower()
    if not wanted:
        _ROOT.addHandler(logging.NullHandler())
        return
    if wanted not in _LEVELS:
        raise UsageError(f"{VARIABLE}={wanted} is no level", f"{VARIABLE}={'|'.join(_LEVELS)}")
    _ROOT.handlers[:] = [_for_a_terminal() if sys.stderr.isatty() else _for_a_file()]
    _ROOT.setLevel(wanted.upper())
    _ROOT.propagate = False


def is_shown() -> bool:
    """Whether somebody asked for everything."""
    return _ROOT.isEnabledFor(logging.DEBUG)


def _for_a_terminal() -> logging.Handler:
    from rich.highlighter import NullHighlighter
    from rich.logging import RichHandler

    from kleaktrace.views.terminal import console

    handler = RichHandler(
        console=console.make(stderr=True),  # a line goes above what turns there, not into it
        show_path=False,
        markup=False,
        highlighter=NullHighlighter(),
        log_time_format="%X.%f",
    )
    handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
    return handler


def _for_a_file() -> logging.Handler:
    """A line each, as long as it is."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    return handler
