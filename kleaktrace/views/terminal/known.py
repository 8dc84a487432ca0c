# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known already, in words: one for each line of the file that names it, and which of them hold for nothing."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console

from kleaktrace.core.evidence.evidence import JudgedSuspect, Verdict
from kleaktrace.core.explanation.conclusions import KnownGroups
from kleaktrace.core.known_leaks import KnownLeak
from kleaktrace.core.report import KnownFindings, Report
from kleaktrace.terminal import clean
from kleaktrace.views.terminal import units
from kleaktrace.views.terminal.console import print_line


def show(console: Console, report: Report) -> None:
    """Print what each line of the file has taken out of the report."""
    _show(console, known_words(report), [one.known for one in report.known if not _is_found(one)], report.known_file)


def show_groups(console: Console, known: Sequence[KnownGroups], file: str) -> None:
    """Print what each line of the file has taken out of an explanation."""
    words = [
        f"{one.known}: {units.count(sum(group.count for group in one.groups), 'object')}, "
        f"{units.size(sum(group.bytes for group in one.groups))}{_where(one.known, file)}"
        for one in known
        if one.groups
    ]
    _show(console, words, [one.known for one in known if not one.groups], file)


def known_words(report: Report) -> list[str]:
    """What each line of the file has taken out of a report."""
    return [
        f"{one.known}: {_findings(one)}{_where(one.known, report.known_file)}" for one in report.known if _is_found(one)
    ]


def not_counted(known: Sequence[KnownFindings]) -> str:
    """What to add to the outcome: how much of what was found it leaves out."""
    objects, stacks = sum(len(one.suspects) for one in known), sum(len(one.growing) for one in known)
    counts = [units.count(objects, "known object")] if objects else []
    counts += [units.count(stacks, "known call stack that grows", "known call stacks that grow")] if stacks else []
    return f"; not counted: {' and '.join(counts)}" if counts else ""


def _show(console: Console, found: Sequence[str], gone: Sequence[KnownLeak], file: str) -> None:
    if found:
        print_line(console)
    for words in found:
        print_line(console, f"known, not counted: {words}", "yellow")
    for known in gone:
        print_line(console, f"known: {known}: nothing of it this time{_where(known, file)}", "dim")


def _is_found(one: KnownFindings) -> bool:
    return bool(one.suspects or one.growing)


def _findings(one: KnownFindings) -> str:
    amounts = [_amount(one.suspects, verdict) for verdict in Verdict]
    growing = f"{units.count(len(one.growing), 'call stack')} growing" if one.growing else ""
    return "; ".join(filter(None, [*amounts, growing]))


def _amount(suspects: Sequence[JudgedSuspect], verdict: Verdict) -> str:
    sizes = [suspect.size for suspect in suspects if suspect.verdict is verdict]
    return f"{units.count(len(sizes), 'object')} {verdict}, {units.size(sum(sizes))}" if sizes else ""


def _where(known: KnownLeak, file: str) -> str:
    return f" ({clean(file)}, line {known.line})"
