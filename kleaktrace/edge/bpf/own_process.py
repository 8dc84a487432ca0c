# SPDX-License-Identifier: GPL-2.0-or-later
"""Has work done in a process of its own: what it loads is gone afterwards, and what ends it does not end us.

LLVM answers what it can't do with exit(1) (llvm/lib/Support/ErrorHandling.cpp, `report_fatal_error`), which would pass
for leaks, without a word.
"""

from __future__ import annotations

import os
import pickle
import signal
import tempfile
import warnings
from collections.abc import Callable
from typing import IO, Any, NoReturn, TypeVar

_MOST_SAID = 1 << 20
_MOST_SHOWN = 300
_Result = TypeVar("_Result")


class ProcessEnded(Exception):
    """It ended before it was done; the text is what it said last on standard error, in one line."""


def in_own_process(work: Callable[[], _Result]) -> _Result:
    """What `work` returns, or raises: both must be such as pickle takes. Raises `ProcessEnded`."""
    read, write = os.pipe()
    with tempfile.TemporaryFile() as said, os.fdopen(read, "rb") as answers:
        with warnings.catch_warnings():
            # Of threads in the process that forks: ours hold no lock that the work needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if child == 0:
            _work(work, write, said)
        os.close(write)
        answer = answers.read()
        os.waitpid(child, 0)
        if not answer:
            said.seek(0)
            last = " ".join(last_line(said.read().decode(errors="replace")).split())
            raise ProcessEnded(last[:_MOST_SHOWN] or "it said nothing")
    # Our own program wrote it.
    succeeded, result = pickle.loads(answer)
    if not succeeded:
        raise result
    found: _Result = result
    return found


def said_so_far() -> str:
    """In such a process: what was written to standard error."""
    return os.pread(2, _MOST_SAID, 0).decode(errors="replace")


def last_line(text: str) -> str:
    """The last line that is not blank; empty if there is none."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _work(work: Callable[[], Any], write: int, said: IO[bytes]) -> NoReturn:
    """In the child."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
        os.dup2(said.fileno(), 2)
        try:
            answer = pickle.dumps((True, work()))
        except Exception as failure:
            answer = pickle.dumps((False, failure))
        with os.fdopen(write, "wb") as file:
            file.write(answer)
    finally:
        os._exit(0)
