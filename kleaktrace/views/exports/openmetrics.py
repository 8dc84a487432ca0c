# SPDX-License-Identifier: GPL-2.0-or-later
"""OpenMetrics text 1.0 (https://prometheus.io/docs/specs/om/open_metrics_spec), for a Prometheus.

Counters count since the recording began. So that a database of time series bears it, only the largest stacks have
series of their own, and what is left has one; nothing of a stack is in a label but its key, module, function, verdict.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from kleaktrace import __version__
from kleaktrace.core.evidence.evidence import SuspectSource, Verdict
from kleaktrace.core.report import Outcome, Report
from kleaktrace.core.symbols.call_stacks import function_of
from kleaktrace.core.tables.stack_rows import StackRow
from kleaktrace.terminal import clean
from kleaktrace.views.exports.material import Material

MOST_STACKS = 50
_LONGEST_LABEL = 128
"""More than any name of a kernel function that people write by hand; KSYM_NAME_LEN allows 512."""


@dataclass(frozen=True, slots=True)
class _Sample:
    value: float
    labels: Mapping[str, str]
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class _Family:
    """A metric family. With a unit, its name ends with it."""

    name: str
    kind: str
    help: str
    samples: Sequence[_Sample]
    unit: str = ""

    def lines(self) -> Iterator[str]:
        yield f"# TYPE {self.name} {self.kind}\n"
        if self.unit:
            yield f"# UNIT {self.name} {self.unit}\n"
        yield f"# HELP {self.name} {_escaped(self.help)}\n"
        for sample in self.samples:
            labels = ",".join(f'{name}="{_label(value)}"' for name, value in sample.labels.items())
            yield f"{self.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {sample.value!r}\n"


def export(material: Material) -> str:
    """Return the whole exposition, `# EOF` last."""
    families = [*_of_recording(material), *_of_findings(material.report), *_of_stacks(material.rows)]
    return "".join(line for family in families for line in family.lines()) + "# EOF\n"


def _of_recording(material: Material) -> Iterator[_Family]:
    report, rows = material.report, material.rows
    totals, loss = report.totals, report.loss
    about = {"version": __version__, "kernel": report.kernel.release, "arch": report.kernel.arch}
    yield _Family("kleaktrace_recording", "info", "What was recorded, and by whom.", [_Sample(1, about, "_info")])
    started = report.window.start.timestamp()
    yield _gauge("kleaktrace_start_time_seconds", "When tracing began, since the epoch.", started, "seconds")
    yield _gauge("kleaktrace_window_seconds", "For how long the kernel was traced.", report.window.seconds, "seconds")
    yield _counter("kleaktrace_allocations", "Allocations seen.", totals.allocations)
    allocated = sum(row.allocated_bytes for row in rows)
    yield _counter("kleaktrace_allocated_bytes", "Bytes that the allocators gave for them.", allocated, "bytes")
    yield _counter("kleaktrace_frees", "Frees seen, of allocations that were seen.", totals.frees)
    yield _counter("kleaktrace_implied_frees", "Frees missed, by reuse of the memory.", totals.implied_frees)
    yield _counter("kleaktrace_unknown_frees", "Frees of what was not outstanding.", totals.unknown_frees)
    yield _gauge("kleaktrace_outstanding_objects", "Allocations without a free.", totals.outstanding, "objects")
    yield _gauge("kleaktrace_outstanding_bytes", "Their bytes, as allocated.", totals.outstanding_bytes, "bytes")
    yield _counter("kleaktrace_lost_events", "Events that the kernel could not hand over.", loss.events)
    yield _counter("kleaktrace_lost_stacks", "Allocations whose call stack could not be taken.", loss.stacks)
    yield _counter("kleaktrace_lost_names", "Stacks, caches or modules left without a name.", loss.names)


def _of_findings(report: Report) -> Iterator[_Family]:
    states = [_Sample(int(report.outcome is one), {"kleaktrace_verdict": str(one)}) for one in Outcome]
    yield _Family("kleaktrace_verdict", "stateset", "The verdict on the whole recording.", states)
    objects: Counter[tuple[SuspectSource, Verdict]] = Counter()
    sizes: Counter[tuple[SuspectSource, Verdict]] = Counter()
    for suspect in report.suspects:
        objects[suspect.source, suspect.verdict] += 1
        sizes[suspect.source, suspect.verdict] += suspect.size
    kinds = [(source, verdict) for source in SuspectSource for verdict in Verdict]
    labels = {kind: {"source": str(kind[0]), "verdict": str(kind[1])} for kind in kinds}
    yield _Family(
        "kleaktrace_suspect_objects",
        "gauge",
        "Suspects, by what makes them suspect and what they turned out to be.",
        [_Sample(objects[kind], labels[kind]) for kind in kinds],
        "objects",
    )
    yield _Family(
        "kleaktrace_suspect_bytes",
        "gauge",
        "The bytes of the suspects.",
        [_Sample(sizes[kind], labels[kind]) for kind in kinds],
        "bytes",
    )
    yield _gauge("kleaktrace_growing_stacks", "Call stacks that grow, unexplained.", len(report.growing), "stacks")
    growth = float(sum(one.growing.bytes_per_s for one in report.growing))
    yield _gauge("kleaktrace_growth_bytes_per_second", "How fast these grow.", growth, "bytes_per_second")


def _of_stacks(rows: Sequence[StackRow]) -> Iterator[_Family]:
    own, others = rows[:MOST_STACKS], rows[MOST_STACKS:]
    labels = [_labels(row) for row in own]
    sizes, objects = [row.outstanding_bytes for row in own], [row.outstanding for row in own]
    if others:
        labels.append({"key": "", "module": "", "function": "(others)", "verdict": ""})
        sizes.append(sum(row.outstanding_bytes for row in others))
        objects.append(sum(row.outstanding for row in others))
    yield _Family(
        "kleaktrace_stack_outstanding_bytes",
        "gauge",
        f"Outstanding bytes of the {MOST_STACKS} call stacks with the most, and of all others.",
        [_Sample(*sample) for sample in zip(sizes, labels, strict=True)],
        "bytes",
    )
    yield _Family(
        "kleaktrace_stack_outstanding_objects",
        "gauge",
        "Outstanding allocations of the same call stacks.",
        [_Sample(*sample) for sample in zip(objects, labels, strict=True)],
        "objects",
    )


def _labels(row: StackRow) -> dict[str, str]:
    requester = row.stack.requester
    return {
        "key": row.key,
        "module": row.stack.module,
        "function": function_of(requester.name) if requester and requester.name else "",
        "verdict": str(row.verdict),
    }


def _gauge(name: str, help_: str, value: float, unit: str) -> _Family:
    return _Family(name, "gauge", help_, [_Sample(value, {})], unit)


def _counter(name: str, help_: str, value: int, unit: str = "") -> _Family:
    return _Family(name, "counter", help_, [_Sample(value, {}, "_total")], unit)


def _label(value: str) -> str:
    text = clean(value)
    return _escaped(text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
