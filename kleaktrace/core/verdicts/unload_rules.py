# SPDX-License-Identifier: GPL-2.0-or-later
"""What modules that are gone have left behind, though something may still point at it."""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import NamedTuple

from kleaktrace.core.events.records import Kind, address_of, comm_text
from kleaktrace.core.evidence.evidence import ALONE, Evidence, JudgedSuspect, SuspectSource, Verdict
from kleaktrace.core.evidence.suspect_cases import ObjectKey, OutstandingAllocation, as_tuples
from kleaktrace.core.kept_on_purpose import is_pinned
from kleaktrace.core.repetition.sign_test import Course
from kleaktrace.core.symbols.call_stacks import Stack
from kleaktrace.core.verdicts.judgement import Judgement


class Opinion(NamedTuple):
    """A verdict on an allocation, and whether it stands in the way of "clean", by which rule."""

    verdict: Verdict
    reason: str
    counts_against_clean: bool = True
    rule: str = "unloaded module"


def judge_unloaded(trial: Judgement, listed: Set[ObjectKey]) -> Iterator[tuple[ObjectKey, JudgedSuspect]]:
    """Judge what went through modules that are gone; not what is `listed` by kmemleak."""
    symbols = trial.evidence.names.symbols
    behind = _left_behind(trial.evidence)
    for row in as_tuples(trial.evidence.ledger.outstanding(behind), OutstandingAllocation) if behind else ():
        if row.key in listed or trial.is_bookkeeping(row):
            continue
        for module, own_code in behind[row.stack]:
            gone_ns = symbols.unloaded_after(module, row.time_ns)
            if gone_ns is not None:
                yield (
                    row.key,
                    unlisted_suspect(trial, row, SuspectSource.UNLOAD, _opinion(trial, row, module, own_code, gone_ns)),
                )
                break


def unlisted_suspect(
    trial: Judgement, row: OutstandingAllocation, source: SuspectSource, opinion: Opinion
) -> JudgedSuspect:
    """A suspect that kmemleak does not list, with the evidence of our own."""
    stack = trial.stacks.of(row.stack)
    return JudgedSuspect(
        source=source,
        address=address_of(row.kind, row.object),
        size=row.bytes_alloc,
        verdict=opinion.verdict,
        reason=opinion.reason,
        age_s=trial.age_ns(row) / 1e9,
        comm=comm_text(row.comm),
        pid=row.tid,
        context=trial.context(row),
        cache=trial.cache(row),
        stack=stack.lines,
        bytes_req=row.bytes_req,
        bytes_alloc=row.bytes_alloc,
        siblings=stack.siblings if row.stack else ALONE,
        counts_against_clean=opinion.counts_against_clean,
        rule=opinion.rule,
        arguments=trial.arguments(row),
        percpu=row.kind == Kind.PERCPU,
    )


def _left_behind(evidence: Evidence) -> dict[int, list[tuple[str, bool]]]:
    """The stacks, by key, with allocations outstanding that pass through modules that are gone; and their modules."""
    gone = evidence.names.symbols.unloaded
    if not gone:
        return {}
    books = evidence.ledger.snapshot()
    keys = books.stacks[books.outstanding > 0].tolist()
    behind = {key: _modules_behind(evidence.names.stacks.get(key)) for key in keys}
    return {key: modules for key, modules in behind.items() if any(module in gone for module, _ in modules)}


def _modules_behind(stack: Stack) -> list[tuple[str, bool]]:
    """The modules an allocation passes through, and whether the module's own code asked; that one first."""
    owner = stack.owner
    own = owner.module if owner is not None else None
    others = sorted(stack.modules - {own})
    return ([(own, True)] if own else []) + [(module, False) for module in others]


def _opinion(trial: Judgement, row: OutstandingAllocation, module: str, own_code: bool, gone_ns: int) -> Opinion:
    since = f"{module} was unloaded {(trial.evidence.clock.end.time_ns - gone_ns) / 1e9:.1f} s ago"
    known = trial.tracked(row)
    if known is False:
        return Opinion(Verdict.DISMISSED, "freed by a path without an event: kmemleak no longer has it")
    if not own_code:
        return _on_its_behalf(trial, row, since)
    lost = trial.stacks.lost_since(row.time_ns, row.kind)
    if lost:
        return Opinion(Verdict.UNDECIDED, f"{since}, but {lost} events were lost in its lifetime")
    unseen = trial.unseen_free(row)
    if known is None and unseen:
        return Opinion(Verdict.UNDECIDED, f"{since}; {unseen}")
    return Opinion(Verdict.CONFIRMED, f"{since}, and its own code never freed this")


def _on_its_behalf(trial: Judgement, row: OutstandingAllocation, since: str) -> Opinion:
    """Core code allocated this for the module, and may keep it on purpose."""
    rule = trial.kept(row)
    if rule is not None:
        return Opinion(Verdict.UNDECIDED, f"{since}; core code keeps this on purpose: {rule.reason}", False, rule.name)
    # That a later round makes no more of what stays does not excuse it: it could not, where it was there already.
    rounds = None if is_pinned(trial.evidence.names.stacks.get(row.stack)) else trial.repeated.of(row.stack)
    if rounds is not None and rounds.course is Course.LEVELS_OFF:
        said = f"core code left none in the later ones of {rounds.left.size} rounds, so it is kept on purpose"
        return Opinion(Verdict.UNDECIDED, f"{since}; {said}", False, Course.LEVELS_OFF)
    if rounds is not None and rounds.course is Course.PENDING:
        said = f"only the last of {rounds.left.size} rounds left any, so the next one frees it"
        return Opinion(Verdict.UNDECIDED, f"{since}; {said}", False, Course.PENDING)
    siblings = trial.stacks.of(row.stack).siblings
    reason = f"{since}; core code allocated this on its behalf, and may keep it on purpose"
    if siblings.freed:
        reason += f", but freed {siblings.freed:,} of {siblings.allocated - 1:,} others from the same call stack"
    return Opinion(Verdict.UNDECIDED, reason)
