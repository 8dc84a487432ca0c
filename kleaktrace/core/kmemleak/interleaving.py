# SPDX-License-Identifier: GPL-2.0-or-later
"""Parts what several tasks printed to the kernel log at the same time, where the log says who printed each line.

Where it does not, what cannot be told apart is given to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from kleaktrace.core.kmemleak.margins import TAG, Belongs, OwnLine, caller_of
from kleaktrace.core.kmemleak.report_grammar import (
    Comm,
    backtrace_of,
    comm_of,
    frame_of,
    header_in,
    hex_head_of,
    starts_comm,
)
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


def came_into_each_other(last: Sequence[OwnLine]) -> bool:
    """Whether the lines of a report hold another one's, that began above it and had no backtrace there.

    They do if one of the parts that a report has once is there twice.
    """
    bodies = [line.body for line in last if line.belongs is Belongs.YES]
    return any(
        sum(map(is_part, bodies)) > 1
        for is_part in (starts_comm, lambda body: bool(backtrace_of(body)), lambda body: bool(hex_head_of(body)))
    )


def known_comms(reports: Sequence[Sequence[OwnLine]]) -> list[Comm | None]:
    """The comm lines of reports that came into each other: None if it may be another one's, too."""
    known: list[Comm | None] = [None] * len(reports)
    waiting: list[int] = []
    seen = 0
    for number, lines in enumerate(reports):
        waiting.append(number)
        for line in lines:
            if line.belongs is not Belongs.YES or not starts_comm(line.body):
                continue
            seen += 1
            if len(waiting) == 1:
                known[number] = comm_of(line.body)
            if seen >= len(waiting):
                waiting, seen = [], 0
    return known


def has_whole_stacks(lines: Sequence[OwnLine]) -> bool:
    """Whether what came after the last of the first lines came in turn, each comm line with its backtrace."""
    kinds = "".join(
        "c" if starts_comm(line.body) else "t" if backtrace_of(line.body) else "f" if frame_of(line.body) else ""
        for line in lines
        if line.belongs is Belongs.YES
    )
    return not any(pair in kinds for pair in ("cc", "cf", "tt", "tc", "ft"))
