# SPDX-License-Identifier: GPL-2.0-or-later
"""The leaks as plain text to be mailed: each as kmemleak would print it, and then what kmemleak cannot know.

Sentences are wrapped at 72 columns. What others search for or paste stays on one line: frames, and the command.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from textwrap import wrap

from kleaktrace import __version__
from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.leaked_objects.leaks import Leak, leaks, stack_key
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.source_lines.source_lines import KERNEL, SourceLines
from kleaktrace.core.symbols.call_stacks import module_of, requester_line
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import growing, units
from kleaktrace.views.terminal.frames import frame_lines
from kleaktrace.views.terminal.held import held_words
from kleaktrace.views.terminal.known import not_counted
from kleaktrace.views.terminal.suspect_words import ages, grouped, missed_free, sibling_words, what

WIDTH = 72
_LABEL = 10
_LONGEST_FRAME = 250
_MOST_STACKS = 20
_MOST_SITES = 5


def mail(recording: Recording, report: Report) -> str:
    """A text that begins with its subject. `report` is that of the recording."""
    found = leaks(report.suspects, report.findings.anatomy)
    undecided = [s for s in report.suspects if s.verdict is Verdict.UNDECIDED and s.counts_against_clean]
    confirmed = [s for s in report.suspects if s.verdict is Verdict.CONFIRMED]
    lines = [
        f"Subject: {_cut(_subject(found, report.outcome))}",
        "",
        *_prose(_summary(report)),
        *_suspects(recording, report.source_lines, "Confirmed", confirmed, found),
        *_suspects(recording, report.source_lines, "Undecided", undecided, ()),
        *_growing(report),
        *_again(report),
        *_machine(recording, report),
    ]
    return "\n".join(lines) + "\n"


def _subject(found: Sequence[Leak], outcome: str) -> str:
    if not found:
        return f"kernel memory: {outcome}"
    first = found[0]
    who = f"{first.requester or 'an unnamed function'}{f' [{first.module}]' if first.module else ''}"
    amount = f"{units.count(first.objects, 'object')}, {units.size(first.bytes_with_held)}"
    more = f" and {units.count(len(found) - 1, 'other call stack')}" if len(found) > 1 else ""
    return f"memory leak: {who}: {amount}{more}"


def _summary(report: Report) -> str:
    totals, kernel = report.totals, report.kernel
    lost = f"{units.count(report.loss.events, 'event')} got lost" if report.loss.events else "no event got lost"
    return (
        f"kleaktrace {__version__} watched Linux {kernel.release} ({kernel.arch}) allocate and free for "
        f"{units.seconds(report.window.seconds)}: {units.count(totals.allocations, 'allocation')}, "
        f"{units.count(totals.frees, 'free')}; {lost}. Verdict: {report.outcome}{not_counted(report.known)}."
    )


def _suspects(
    recording: Recording,
    sources: SourceLines,
    title: str,
    suspects: Sequence[JudgedSuspect],
    found: Sequence[Leak],
) -> Iterator[str]:
    known = {leak.stack: leak for leak in found}
    groups = grouped(suspects, list(known))
    for number, group in enumerate(groups[:_MOST_STACKS], 1):
        yield from ("", f"{title}, {number} of {len(groups)}", "")
        yield from _object(recording, sources, group[0])
        yield ""
        yield from _labelled("What", f"{what(group)}, {ages(group)} old")
        for reason in list(dict.fromkeys(s.reason for s in group))[:3]:
            yield from _labelled("Verdict", f"{group[0].verdict}: {reason}")
        yield from _evidence(group[0], known.get(group[0].stack))
    if len(groups) > _MOST_STACKS:
        yield from ("", f"… and {len(groups) - _MOST_STACKS} more call stacks")


def _object(recording: Recording, sources: SourceLines, suspect: JudgedSuspect) -> Iterator[str]:
    """As mm/kmemleak.c, print_unreferenced, did until Linux 6.7: later ones leave out the age."""
    clock = recording.clock
    jiffies = clock.end.jiffies - round(suspect.age_s * clock.hz)
    yield f"unreferenced object {suspect.address:#018x} (size {suspect.size}):"
    yield f'  comm "{clean(suspect.comm)}", pid {suspect.pid}, jiffies {jiffies} (age {suspect.age_s:.3f}s)'
    yield from _backtrace(suspect.stack, sources)


def _backtrace(stack: Sequence[str], sources: SourceLines) -> Iterator[str]:
    """With source lines in the form that syzbot's reports have, which kmemleak's readers know."""
    yield "  backtrace:"
    for frame in stack:
        yield from (f"    {_cut(line)}" for line in frame_lines(frame, sources, "[inline]"))


def _evidence(suspect: JudgedSuspect, leak: Leak | None) -> Iterator[str]:
    siblings = suspect.siblings
    if siblings.allocated:
        yield from _labelled("Siblings", sibling_words(suspect.siblings))
    for site, count in siblings.free_sites[:_MOST_SITES]:
        yield from _labelled("Freed at", f"{site} ({count:,} of {siblings.freed:,})", whole=True)
    if leak is not None and leak.rounds is not None:
        rounds = leak.rounds
        yield from _labelled("Rounds", f"{rounds.grew_in} of {rounds.total} left {rounds.per_round:g} more behind")
    if leak is not None and leak.cause is not None and leak.cause.group.held:
        yield from _labelled("Holds", held_words(leak.cause.group, leak.cause.requester))
    if leak is not None and leak.hangs_on:
        yield from _labelled("Hangs on", f"what {leak.hangs_on} allocated")
    for note in leak.notes if leak is not None else ():
        yield from _labelled("In it", note)
    for hint in (*suspect.contrasts, *missed_free(suspect)):
        yield from _labelled("Look at", str(hint))
    yield from _labelled("Stack id", stack_key(suspect.stack))


def _growing(report: Report) -> Iterator[str]:
    found = report.growing
    for number, one in enumerate(found[:_MOST_STACKS], 1):
        lines = one.lines()
        yield from ("", f"Growing, {number} of {len(found)}: {_cut(requester_line(lines))}".rstrip(": "), "")
        yield from _prose(growing.words(one, report.now_ns))
        yield from _backtrace(lines, report.source_lines)
    if found:
        yield ""
        yield from _prose(growing.meaning(found))


def _again(report: Report) -> Iterator[str]:
    """How to see it again."""
    command = report.command
    yield from ("", "To see it again, as root:", "")
    if command is None:
        yield "  kleaktrace confirm"
    else:
        repeat = f"--repeat {command.runs} " if command.runs > 1 else ""
        yield f"  kleaktrace run {repeat}-- {clean(shlex.join(command.arguments))}"


def _machine(recording: Recording, report: Report) -> Iterator[str]:
    yield ""
    yield from _labelled("Kernel", f"{report.kernel.release} {report.kernel.arch}")
    stacks = [s.stack for s in report.suspects if s.verdict is not Verdict.DISMISSED]
    tagged = {module_of(line) for stack in stacks for line in stack}
    gone = recording.names.symbols.unloaded
    modules = sorted(tagged - {"", "bpf"})
    if modules:
        yield from _labelled("Modules", ", ".join(f"{m} (unloaded)" if m in gone else m for m in modules))
    for name in (KERNEL, *modules):
        if name in recording.names.build_ids:
            yield from _labelled("Build id", f"{recording.names.build_ids[name]} {name or 'vmlinux'}", whole=True)
    for one in report.coverage:
        if one.source is None:
            yield from _labelled("Not seen", f"{one.kind}: {one.note}")
    for gap in (*report.gaps, *map(str, report.findings.missing)):
        yield from _labelled("Missing", gap)


def _labelled(label: str, words: str, whole: bool = False) -> list[str]:
    """Words behind a label; `whole`: on one line, however long."""
    start = f"{label + ':':{_LABEL}}"
    if whole:
        return [start + _cut(words)]
    return wrap(clean(words), WIDTH, initial_indent=start, subsequent_indent=" " * _LABEL) or [start]


def _prose(words: str) -> list[str]:
    return wrap(clean(words), WIDTH)


def _cut(words: str) -> str:
    """On one line, and no longer than mail servers bear."""
    cleaned = clean(words)
    return cleaned if len(cleaned) <= _LONGEST_FRAME else f"{cleaned[:_LONGEST_FRAME]}…"
