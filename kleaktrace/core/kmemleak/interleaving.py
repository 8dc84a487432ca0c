# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts what several tasks printed to the kernel log at the same time, where the log says who printed each line."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kleaktrace.core.kmemleak.margins import TAG, caller_of
from kleaktrace.core.kmemleak.report_grammar import header_in
from kleaktrace.core.kmemleak.text_lines import Line


def by_caller(lines: Sequence[Line]) -> list[Line]:
    """Put lines of kmemleak's that follow each other in order of their callers, if several of those begin reports.

    Only where one report begins before the one above it is complete; else the order is that of the text.
    """
    ordered: list[Line] = []
    run: list[tuple[str, Line]] = []
    for line in lines:
        caller = caller_of(line.text) if TAG in line.text else None
        if caller is not None:
            run.append((caller, line))
            continue
        ordered += _parted(run)
        run = []
        ordered.append(line)
    return ordered + _parted(run)


def _parted(run: Sequence[tuple[str, Line]]) -> list[Line]:
    begin = [caller for caller, line in run if header_in(line.text)]
    changes = sum(one[0] != other[0] for one, other in pairwise(run))
    if len(set(begin)) < 2 or changes < len(begin):
        return [line for _, line in run]
    callers = list(dict.fromkeys(caller for caller, _ in run))
    return [line for each in callers for caller, line in run if caller == each]
