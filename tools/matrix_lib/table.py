# SPDX-License-Identifier: GPL-2.0-or-later
"""The matrix as Markdown: docs/kernels.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matrix_lib.kernels import Kernel
from matrix_lib.measure import TESTS
from matrix_lib.results import Result, SuiteTests

_PAGE = Path(__file__).with_name("page.md")
_BY = {
    "raw_tracepoint": "tracepoint",
    "fentry": "fentry",
    "fexit": "fexit",
    "kprobe": "kprobe",
    "kretprobe": "kprobe",
}
_SOURCES = (
    ("slab", ("kmalloc", "kfree", "slab-cache-alloc", "slab-cache-free")),
    ("bulk alloc", ("slab-bulk-alloc",)),
    ("bulk free", ("slab-bulk-free",)),
    ("vmalloc", ("vmalloc",)),
    ("vfree", ("vfree",)),
    ("per-CPU", ("percpu",)),
    ("modules", ("modules",)),
)
_TRACED = ("kernel", "what", "release", *(name for name, _ in _SOURCES), "context", "plain loads")
_JUDGED = (
    *("kernel", "loaded", "unloaded", "wrong", "undecided", "lost", *TESTS),
    *("recognised", "wrong stacks", "cost", "commit", "date"),
)


_MOST = 200
"""Characters of a reason: a verifier may say pages."""


def document(kernels: Sequence[Kernel], results: Sequence[Result | None]) -> str:
    """All of the page."""
    rows = list(zip(kernels, results, strict=True))
    return _PAGE.read_text().format(
        traced=_table(_TRACED, [_traced(kernel, result) for kernel, result in rows]),
        judged=_table(_JUDGED, [_judged(kernel, result) for kernel, result in rows]),
        notes="\n".join(_notes(rows)),
        refusals="\n".join(_refusals(rows)),
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _source(result: Result, kinds: Sequence[str]) -> str:
    known = [result.sources.get(kind) for kind in kinds]
    if any(source is None for source in known):
        return "**no**"
    ways = {_BY[part.partition(":")[0]] for source in known if source for part in source.split("+")}
    return ", ".join(sorted(ways))


def _traced(kernel: Kernel, result: Result | None) -> list[str]:
    if result is None:
        return [kernel.name, kernel.what, "not run", *[""] * (len(_SOURCES) + 2)]
    if result.refused:
        return [kernel.name, kernel.what, result.release, *["**no**"] * (len(_SOURCES) + 2)]
    sources = [_source(result, kinds) for _, kinds in _SOURCES]
    loads = "yes" if result.plain_loads else "copied"
    return [kernel.name, kernel.what, result.release, *sources, f"`{result.context}`", loads]


def _judged(kernel: Kernel, result: Result | None) -> list[str]:
    if result is None:
        return [kernel.name, "not run", *[""] * (len(_JUDGED) - 2)]
    if result.refused:
        return [kernel.name, *["**no**"] * (len(_JUDGED) - 3), result.commit, result.date]
    phases = list(result.verdicts.values())
    verdicts = ["no lab"] * 2 + [""] * (3 + len(TESTS))
    if phases:
        verdicts = [
            *(f"{one.found} of {one.kinds}" for one in phases),
            str(sum(len(one.wrong) for one in phases)),
            f"{max(one.undecided for one in phases):.1%}",
            str(sum(one.lost for one in phases)),
            *(_tests(result.tests.get(name)) for name in TESTS),
        ]
    stacks = [f"{result.recognised:.0%}", str(result.wrong_stacks), f"{result.cost:.2f} ×"]
    return [kernel.name, *verdicts, *stacks, result.commit, result.date]


def _tests(tests: SuiteTests | None) -> str:
    return f"{tests.count - len(tests.failed)} of {tests.count}" if tests else "not run"


def _notes(rows: Sequence[tuple[Kernel, Result | None]]) -> list[str]:
    notes = []
    for kernel, result in rows:
        if result is None:
            continue
        if result.refused:
            notes.append(f"- **{kernel.name}**: {result.refused}")
        for phase, verdicts in result.verdicts.items():
            if verdicts.missed:
                notes.append(f"- **{kernel.name}**, {phase}: not found: {', '.join(verdicts.missed)}")
            if verdicts.wrong:
                notes.append(f"- **{kernel.name}**, {phase}: wrong: {', '.join(verdicts.wrong)}")
        notes += [
            f"- **{kernel.name}**, {name}: failed: {', '.join(tests.failed)}"
            for name, tests in result.tests.items()
            if tests.failed
        ]
    return notes


def _refusals(rows: Sequence[tuple[Kernel, Result | None]]) -> list[str]:
    """Each refusal once, with the kernels that it is of; one that another kernel words in the same way, with that."""
    by: dict[str, list[str]] = {}
    for kernel, result in rows:
        for refusal in result.refusals if result else []:
            by.setdefault(_readable(refusal), []).append(kernel.name)
    return [f"- {text}: {', '.join(names)}" for text, names in by.items()]


def _readable(refusal: str) -> str:
    probes, _, why = refusal.partition(": ")
    words = " ".join(why.split())
    return f"`{probes}`: {words[:_MOST]}{'…' if len(words) > _MOST else ''}"
