# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is once in a capture, as JSON values by name: how a session began, what was learned beside its events.

Reading them raises ValueError where a value is not what it should be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar

from kleaktrace.core.events.clock import Moment
from kleaktrace.core.events.coverage import Coverage, CoverageKind, StackCheck
from kleaktrace.core.events.loss import Loss, LossWindow, LostEvents
from kleaktrace.core.evidence.injected_runs import Asked, FailedAllocation, InjectedRun, RunEnd, Walk
from kleaktrace.core.evidence.rounds import RoundSeries, RoundSource
from kleaktrace.core.machine.settling import Settled
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import CommandResult, Kernel

Facts = Mapping[str, Any]

_Value = TypeVar("_Value")


def at_the_start(recording: Recording) -> Facts:
    """What is known as soon as the session has begun."""
    start = recording.clock.start
    return {
        "kernel": [recording.kernel.release, recording.kernel.arch, recording.kernel.host],
        "processors": recording.processors,
        "started": recording.started.isoformat(),
        "start": [start.time_ns, start.jiffies],
        "coverage": [_coverage(one) for one in recording.coverage],
        "context_source": recording.context_source,
    }


def in_between(recording: Recording) -> Facts:
    """What changes while the session goes on."""
    loss, check = recording.loss, recording.stack_check
    return {
        "stack_check": [check.unwound, check.checked, check.wrong],
        "build_ids": sorted(recording.names.build_ids.copy().items()),  # more may come meanwhile
        "loss": {
            "events": loss.events,
            "stacks": loss.stacks,
            "names": loss.names,
            "causes": [[lost.cause, lost.events] for lost in loss.causes],
        },
    }


def at_the_end(recording: Recording) -> Facts:
    """What the command has learned beside the events. Readings, answers and contents are in tables of their own."""
    command, settled = recording.command, recording.settled
    return {
        "command": command
        and [list(command.arguments), command.status, command.runs, command.failed_runs, command.timed_out],
        "growth_windows": [list(window) for window in recording.growth_windows],
        "settled": settled and [settled.seconds, settled.freed, settled.left],
        "missing": [
            [str(one.name), one.bytes, one.meaning, [list(site) for site in one.sites]] for one in recording.missing
        ],
        "gaps": list(recording.gaps),
        "readings": len(recording.readings),
        "watched_s": recording.watched_s,
        "series": [[str(series.source), list(series.edges), series.name] for series in recording.series],
        "alive": sorted(recording.alive),
        "contents": recording.contents and _coverage(recording.contents.coverage),
        "walk": recording.walk and _walk(recording.walk),
    }


def _walk(walk: Walk) -> Facts:
    return {
        "means": walk.means,
        "planned": walk.planned,
        "end_ns": walk.end_ns,
        "stopped": walk.stopped,
        "runs": [_run(run) for run in walk.runs],
    }


def _run(run: InjectedRun) -> list[Any]:
    return [
        *(run.number, run.start_ns, run.end_ns, run.failed and _failed(run.failed)),
        *(run.status, str(run.ended), list(run.said), run.left_unfit, run.again),
    ]


def _failed(one: FailedAllocation) -> list[Any]:
    return [one.time_ns, list(one.stack), one.bytes, str(one.asked), one.key, one.comm, one.pid]


def _coverage(one: Coverage) -> list[str | bool | None]:
    return [str(one.kind), one.source, one.note, one.guard_pages]


class KnownFacts:
    """The facts of a capture, each in its type."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts

    def has(self, name: str) -> bool:
        """Whether it is told."""
        return self._facts.get(name) is not None

    def kernel(self) -> Kernel:
        """Whose events these are."""
        release, arch, host = self._list("kernel", 3)
        return Kernel(_text(release), _text(arch), _text(host))

    def processors(self) -> int:
        """So many there may be; 0: not known."""
        return _count(self._facts.get("processors", 0))

    def started(self) -> datetime:
        """When tracing began."""
        return datetime.fromisoformat(_text(self._facts.get("started")))

    def start(self) -> Moment:
        """The same by the clocks of the events."""
        time_ns, jiffies = self._list("start", 2)
        return Moment(_count(time_ns), _count(jiffies))

    def build_ids(self) -> dict[str, str]:
        """Of the kernel and its modules."""
        return {_text(name): _text(build_id) for name, build_id in self._list("build_ids")}

    def coverage(self) -> tuple[Coverage, ...]:
        """What was seen."""
        return tuple(_read_coverage(one) for one in self._list("coverage"))

    def context_source(self) -> str:
        """How contexts were known."""
        return _text(self._facts.get("context_source", ""))

    def stack_check(self) -> StackCheck:
        """How recognised stacks fared."""
        return StackCheck(*map(_count, self._list("stack_check", 3))) if self.has("stack_check") else StackCheck()

    def loss(self, windows: Sequence[LossWindow]) -> Loss:
        """What was lost; when, is told elsewhere."""
        loss = self._facts.get("loss") or {}
        if not isinstance(loss, dict):
            raise ValueError("the fact 'loss' is not what it should be")
        causes = tuple(LostEvents(_text(cause), _count(events)) for cause, events in loss.get("causes", []))
        events, stacks, names = (_count(loss.get(name, 0)) for name in ("events", "stacks", "names"))
        return Loss(events, stacks, names, tuple(windows), causes)

    def command(self) -> CommandResult | None:
        """The command that was run."""
        if not self.has("command"):
            return None
        arguments, status, runs, failed, timed_out = self._list("command", 5)
        told = tuple(map(_text, arguments))
        return CommandResult(told, _typed(status, int), _count(runs), _count(failed), bool(timed_out))

    def growth_windows(self) -> list[tuple[int, int]]:
        """When to look for growth."""
        return [(_count(start), _count(end)) for start, end in self._list("growth_windows")]

    def settled(self) -> Settled | None:
        """How long was waited for frees under way."""
        if not self.has("settled"):
            return None
        seconds, freed, left = self._list("settled", 3)
        return Settled(_number(seconds), _count(freed), _count(left))

    def missing(self) -> list[Unexplained]:
        """Memory that is gone."""
        return [
            Unexplained(
                *(MissingMemory(_text(name)), _count(size), _text(meaning)),
                tuple((_text(site), _count(taken)) for site, taken in sites),
            )
            for name, size, meaning, sites in self._list("missing")
        ]

    def gaps(self) -> list[str]:
        """Why the evidence is incomplete."""
        return [_text(gap) for gap in self._list("gaps")]

    def readings(self) -> int:
        """How often kmemleak was read."""
        return _count(self._facts.get("readings", 0))

    def watched_s(self) -> float:
        """For how long frees were watched."""
        return _number(self._facts.get("watched_s", 0.0))

    def series(self) -> list[RoundSeries]:
        """The rounds there were."""
        return [
            RoundSeries(RoundSource(_text(source)), tuple(map(_count, edges)), _text(name))
            for source, edges, name in self._list("series")
        ]

    def alive(self) -> frozenset[int]:
        """Processes that live on."""
        return frozenset(map(_count, self._list("alive")))

    def contents(self) -> Coverage | None:
        """Whether it was seen what objects held; None: nobody looked."""
        return _read_coverage(self._facts["contents"]) if self.has("contents") else None

    def walk(self) -> Walk | None:
        """The runs in each of which one allocation failed; None: there were none."""
        if not self.has("walk"):
            return None
        told = _typed(self._facts["walk"], dict)
        return Walk(
            _text(told.get("means")),
            tuple(map(_read_run, _typed(told.get("runs"), list))),
            _count(told.get("planned")),
            _count(told.get("end_ns")),
            _text(told.get("stopped")),
        )

    def _list(self, name: str, length: int | None = None) -> list[Any]:
        found = self._facts.get(name) or []
        if not isinstance(found, list) or (length is not None and len(found) != length):
            raise ValueError(f"the fact {name!r} is not what it should be")
        return found


def _read_coverage(one: Any) -> Coverage:
    kind, source, note, *more = one
    known = Coverage(CoverageKind(_text(kind)), None if source is None else _text(source), _text(note))
    return replace(known, guard_pages=_typed(more[0], bool) if more else _had_guard_pages(known))


def _had_guard_pages(one: Coverage) -> bool:
    """The same of a capture from before this was told: then one source reported ranges of addresses, by this name."""
    return one.kind is CoverageKind.VMALLOC and one.source == "raw_tracepoint:alloc_vmap_area"


def _read_run(told: Any) -> InjectedRun:
    number, start_ns, end_ns, failed, status, ended, said, left_unfit, again = told
    return InjectedRun(
        *(_count(number), _count(start_ns), _count(end_ns)),
        None if failed is None else _read_failed(failed),
        _typed(status, int),
        RunEnd(_text(ended)),
        tuple(map(_text, said)),
        bool(left_unfit),
        bool(again),
    )


def _read_failed(told: Any) -> FailedAllocation:
    time_ns, stack, size, asked, key, comm, pid = told
    frames = tuple(map(_text, stack))
    return FailedAllocation(
        _count(time_ns), frames, _count(size), Asked(_text(asked)), _count(key), _text(comm), _count(pid)
    )


def _typed(value: object, kind: type[_Value]) -> _Value:
    if not isinstance(value, kind):
        raise ValueError(f"{value!r:.40} is not what it should be")
    return value


def _text(value: object) -> str:
    return _typed(value, str)


def _count(value: object) -> int:
    number = _typed(value, int)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"{number!r:.40} is not what it should be")
    return number


def _number(value: object) -> float:
    return float(_typed(value, float) if isinstance(value, float) else _count(value))
