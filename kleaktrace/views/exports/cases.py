# SPDX-License-Identifier: GPL-2.0-or-later
"""A report as the test cases that CI systems count: a leak fails, what nobody could decide is skipped.

There is one case for the evidence, one for each call stack with suspects, one for each that grows, and one for each
kind of memory that is missing. A name is the same in every run and build for the same stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import module_line, module_of, requester_function
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units

SUITE = "kleaktrace"

_REASONS = 3


class Result(StrEnum):
    """What became of a case."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Case:
    """One test case, in text that is safe to print, without line breaks.

    area: the module it is about, or what else. reason: in one line, empty if there is nothing to say.
    """

    area: str
    name: str
    result: Result
    reason: str = ""
    evidence: tuple[str, ...] = ()


def cases(report: Report) -> list[Case]:
    """All cases: the evidence, then failures before what is skipped, and that before what passed."""
    found = [*_suspects(report), *map(_growing, report.growing), *_missing(report)]
    order = [Result.FAILED, Result.SKIPPED, Result.PASSED]
    return [_evidence(report), *sorted(found, key=lambda case: order.index(case.result))]


def about(report: Report) -> tuple[str, ...]:
    """What was traced, in a few lines."""
    totals = report.totals
    return (
        clean(f"kernel {report.kernel.release} {report.kernel.arch}, traced for {report.window.seconds:.1f} s"),
        f"{units.count(totals.allocations, 'allocation')}, {units.count(totals.frees, 'free')}, "
        f"{totals.outstanding:,} outstanding ({units.size(totals.outstanding_bytes)})",
        f"{units.count(report.loss.events, 'event')} lost",
        f"verdict: {report.outcome}",
    )


def _evidence(report: Report) -> Case:
    gaps = tuple(clean(gap) for gap in report.gaps)
    if not gaps:
        return Case("recording", "evidence", Result.PASSED)
    return Case("recording", "evidence", Result.SKIPPED, f"incomplete: {gaps[0]}", gaps)


def _suspects(report: Report) -> Iterator[Case]:
    by_stack: dict[tuple[str, ...], list[JudgedSuspect]] = {}
    for suspect in report.suspects:
        by_stack.setdefault(suspect.stack, []).append(suspect)
    for stack, suspects in by_stack.items():
        result = _result(suspects)
        telling = [s for s in suspects if _result([s]) is result]
        yield Case(
            _module(stack),
            _name("leak", stack),
            result,
            clean(f"{telling[0].verdict}, {_amount(telling)}: {telling[0].reason}"),
            tuple(map(clean, _told(stack, suspects))),
        )


def _result(suspects: Sequence[JudgedSuspect]) -> Result:
    """The worst of them: what counts against nobody passes, as it does for the exit code."""
    if any(s.verdict is Verdict.CONFIRMED for s in suspects):
        return Result.FAILED
    if any(s.verdict is Verdict.UNDECIDED and s.counts_against_clean for s in suspects):
        return Result.SKIPPED
    return Result.PASSED


def _told(stack: Sequence[str], suspects: Sequence[JudgedSuspect]) -> Iterator[str]:
    """The evidence on the suspects of a stack, line by line."""
    for verdict in Verdict:
        of_verdict = [s for s in suspects if s.verdict is verdict]
        if not of_verdict:
            continue
        first = of_verdict[0]
        yield f"{verdict}: {_amount(of_verdict)}{f' from {first.cache}' if first.cache else ''}, by {first.source}"
        yield from (f"  {reason}" for reason in list(dict.fromkeys(s.reason for s in of_verdict))[:_REASONS])
        context = first.context.name.lower()
        yield f"  {context} {first.comm} (pid {first.pid}), {units.seconds(max(s.age_s for s in of_verdict))} ago"
    siblings = suspects[0].siblings
    if siblings.allocated:
        sites = "".join(f", {count} at {site}" for site, count in siblings.free_sites[:_REASONS])
        yield f"same call stack: {siblings.freed} of {siblings.allocated} freed{sites}"
    yield from (f"look at: {contrast}" for contrast in suspects[0].contrasts)
    yield from _frames(stack)


def _growing(one: GrowingStack) -> Case:
    growing, stack = one.growing, one.lines()
    low, high = growing.ci95
    told = [
        f"{units.count(growing.outstanding, 'object')}, {units.size(growing.bytes)}, by {one.context} {one.comm}",
        f"growing by {growing.bytes_per_s:.0f} bytes/s, 95 % between {low:.0f} and {high:.0f}",
        *_frames(stack),
    ]
    reason = f"grows by {growing.bytes_per_s:.0f} bytes/s, and nothing explains it"
    return Case(_module(stack), _name("growth", stack), Result.SKIPPED, reason, tuple(map(clean, told)))


def _missing(report: Report) -> Iterator[Case]:
    for one in report.findings.missing:
        reason = f"{units.size(one.bytes)} are missing by the machine's own counters: {one.meaning}"
        yield Case("machine", clean(f"memory: {one.name}"), Result.SKIPPED, clean(reason))


def _name(what: str, stack: Sequence[str]) -> str:
    return clean(f"{what}: {requester_function(stack) or 'unnamed function'}, stack {stack_key(stack)}")


def _module(stack: Sequence[str]) -> str:
    return clean(module_of(module_line(stack))) or "kernel"


def _amount(suspects: Sequence[JudgedSuspect]) -> str:
    return f"{units.count(len(suspects), 'object')}, {units.size(sum(s.size for s in suspects))}"


def _frames(stack: Sequence[str]) -> Iterator[str]:
    return (f"  {frame}" for frame in stack)
