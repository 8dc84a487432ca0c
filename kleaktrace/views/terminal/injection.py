# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read of `inject`: which failing call leaks what, with the evidence; then the runs."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.evidence.injected_runs import FailedAllocation, RunEnd
from kleaktrace.core.injection.error_paths import ErrorPath, PathOutcome
from kleaktrace.core.injection.report import InjectionReport
from kleaktrace.core.leaked_objects.leaks import Leak, leaks
from kleaktrace.core.report import Outcome
from kleaktrace.core.symbols.call_stacks import module_line, requester_function, requester_line
from kleaktrace.views.terminal import known as known_view
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.console import print_line
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.report import ending, header, show_group
from kleaktrace.views.terminal.suspect_words import grouped

_STYLES = {
    PathOutcome.CRASH: "bold red",
    PathOutcome.HANG: "bold red",
    PathOutcome.LEAKS: "bold red",
    PathOutcome.UNDECIDED: "yellow",
}
_COUNTED = {
    PathOutcome.CRASH: "crashing",
    PathOutcome.HANG: "hanging",
    PathOutcome.LEAKS: "leaking",
    PathOutcome.UNDECIDED: "undecided",
    PathOutcome.CLEAN: "clean",
}
_FRAMES = 8
_MANY_GROUPS = 20
_FEW = 3


def show(console: Console, found: InjectionReport) -> None:
    """First the answer: what each failing call leaves behind; then the evidence."""
    report = found.report
    known = {leak.stack: leak for leak in leaks(report.suspects, report.findings.anatomy)}
    bad = [path for path in found.paths if path.outcome is not PathOutcome.CLEAN]
    for path in bad:
        print_line(console, path_words(path), _STYLES[path.outcome])
    without = found.leaked_without_failure
    if without:
        print_line(console, f"LEAK without any failure: {_objects(without)}", "bold red")
    print_line(console, _clean_words(found, len(bad)))
    console.print()
    print_line(console, walk_words(found))
    header(console, report)
    for path in bad:
        _show_path(console, found, path, known)
    if without:
        _show_suspects(console, found, "left without any failure", without, known)
    known_view.show(console, report)
    for missing in report.findings.missing:
        print_line(console, f"memory is missing: {missing}", "yellow")
    for gap in report.gaps:
        print_line(console, f"evidence incomplete: {gap}", "yellow")
    _show_outcome(console, found)


def path_words(path: ErrorPath) -> str:
    """An error path that is not clean, in a line."""
    when = f"when {call_words(path.failed)} fails"
    runs = f"(run {', '.join(map(str, path.numbers[:_FEW]))}{', …' if len(path.numbers) > _FEW else ''})"
    match path.outcome:
        case PathOutcome.CRASH:
            return f"CRASH {when}: {path.said[0] if path.said else 'the kernel died'} {runs}"
        case PathOutcome.HANG:
            return f"HANG {when}: the command does not end {runs}"
        case PathOutcome.LEAKS:
            return f"LEAK {when}: {_objects(path.confirmed)}, never freed {runs}"
    left = [s for s in path.suspects if s.verdict is Verdict.UNDECIDED and s.counts_against_clean]
    unfit = any(result.run.left_unfit for result in path.results)
    if unfit:
        return f"UNFIT {when}: the command can't start again {runs}"
    return f"undecided {when}: {_objects(left) if left else 'it was interrupted'} {runs}"


def call_words(failed: FailedAllocation) -> str:
    """Which call fails: in which function, and where in it; and the module's code behind, if core code asked."""
    asking = requester_line(failed.stack) or next(iter(failed.stack), "")
    place = asking.partition("/")[0] or "an unknown call"
    in_module = module_line(failed.stack)
    asked = f"{failed.bytes:,} bytes" if failed.bytes else "an allocation"
    if in_module and in_module != asking:
        return f"{asked} in {place}, for {in_module.partition('/')[0]},"
    return f"{asked} in {place}"


def _objects(suspects: Sequence[JudgedSuspect]) -> str:
    """How many objects, and who allocated them."""
    by_function: dict[str, int] = {}
    for suspect in suspects:
        name = requester_function(suspect.stack) or "an unnamed function"
        by_function[name] = by_function.get(name, 0) + 1
    names = list(by_function)
    who = " and ".join(names[:_FEW]) + (f" and {len(names) - _FEW} more" if len(names) > _FEW else "")
    size = units.size(sum(suspect.size for suspect in suspects))
    return f"{units.count(len(suspects), 'object')}, {size}, from {who}"


def _clean_words(found: InjectionReport, bad: int) -> str:
    count = len(found.paths) - bad
    if not found.paths:
        return "no allocation failed: none passed the filter"
    which = "other error path" if bad else "error path"
    everything = "everything but what is known" if any(one.suspects for one in found.report.known) else "everything"
    if count == 1:
        return f"the {which} frees {everything}"
    return f"the {count:,} {which}s free {everything}" if count else f"no error path frees {everything}"


def walk_words(found: InjectionReport) -> str:
    """How many failed, how, and how long it took."""
    walk = found.walk
    words = f"{units.count(len(walk.failures), 'allocation')} failed, one in each run, "
    if len(found.paths) != len(walk.failures):
        words += f"in {units.count(len(found.paths), 'error path')}, "
    words += f"by {walk.means}; "
    if walk.by_number:
        words += f"plain runs asked from {units.count(walk.planned, 'call stack')} of modules"
    else:
        words += f"the plain run showed {walk.planned:,} that could"
    if walk.per_failure_s is not None and walk.plain_s:
        words += (
            f"; {units.seconds(walk.per_failure_s)} each, a run without failure takes {units.seconds(walk.plain_s)}"
        )
    return words


def _show_path(console: Console, found: InjectionReport, path: ErrorPath, known: dict[tuple[str, ...], Leak]) -> None:
    console.print()
    print_line(console, path_words(path), _STYLES[path.outcome])
    for result in path.results[:_FEW]:
        run = result.run
        how = ": the kernel's log has" if run.said else ""
        print_line(console, f"  run {run.number}: {_ended(run.ended, run.status)}{how}")
        for line in run.said:
            print_line(console, f"    {line}", "bold")
    print_line(console, "  the call that failed:")
    for frame in path.failed.stack[:_FRAMES]:
        for line in frame_lines(frame, found.report.source_lines):
            print_line(console, f"      {line}")
    _show_suspects(console, found, "", path.confirmed, known)
    _show_suspects(console, found, "", [s for s in path.suspects if s.verdict is Verdict.UNDECIDED], known)


def _ended(ended: RunEnd, status: int) -> str:
    if ended is RunEnd.EXITED:
        return f"the command ended with {ending(status) if status else 'status 0'}"
    return {
        RunEnd.HUNG: "the command had to be killed",
        RunEnd.STUCK: "the command can't even be killed",
        RunEnd.CRASHED: "the kernel has a bug",
        RunEnd.INTERRUPTED: "the command was interrupted",
    }[ended]


def _show_suspects(
    console: Console,
    found: InjectionReport,
    title: str,
    suspects: Sequence[JudgedSuspect],
    known: dict[tuple[str, ...], Leak],
) -> None:
    if not suspects:
        return
    if title:
        console.print()
        print_line(console, title, "bold")
    groups = grouped([s for s in suspects if s.counts_against_clean], list(known))
    for group in groups[:_MANY_GROUPS]:
        leak = known.get(group[0].stack) if group[0].verdict is Verdict.CONFIRMED else None
        show_group(console, group, leak, found.report.source_lines)
    if len(groups) > _MANY_GROUPS:
        print_line(console, f"  … and {len(groups) - _MANY_GROUPS} more call stacks (--json has all)", "dim")


def _show_outcome(console: Console, found: InjectionReport) -> None:
    console.print()
    counts = {words: len(found.of(outcome)) for outcome, words in _COUNTED.items()}
    summary = ", ".join(f"{count} {words}" for words, count in counts.items() if count) or "none"
    words = f"{units.count(len(found.paths), 'error path')}: {summary}{known_view.not_counted(found.report.known)}"
    match found.report.outcome:
        case Outcome.LEAKS:
            print_line(console, f"LEAKS: {words}", "bold red")
        case Outcome.CLEAN:
            print_line(console, f"clean: {words}", "bold green")
        case Outcome.INCOMPLETE:
            print_line(console, f"incomplete: {words}; nothing is confirmed, but not everything is explained", "yellow")
