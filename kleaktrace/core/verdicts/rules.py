# SPDX-License-Identifier: GPL-2.0-or-later
"""The verdicts: what becomes of each suspect, and why. Every rule is a function with its reason beside it.

A verdict is right or it is `undecided`: what could not be seen never confirms and never dismisses.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from kleaktrace.core.arrays.gc_pause import kept_uncollected
from kleaktrace.core.events.clock import signed_difference
from kleaktrace.core.events.coverage import counts_guard_pages
from kleaktrace.core.events.records import Context, Kind
from kleaktrace.core.evidence.contrasts import contrasts
from kleaktrace.core.evidence.evidence import ALONE, Evidence, Freed, JudgedSuspect, Question, SuspectSource, Verdict
from kleaktrace.core.evidence.lifetimes import ENOUGH
from kleaktrace.core.evidence.stack_evidence import StackEvidence, places_by_stack
from kleaktrace.core.evidence.suspect_cases import (
    JIFFIES_TOLERANCE,
    EndedAllocation,
    OutstandingAllocation,
    SuspectCase,
    cases,
    same_time,
)
from kleaktrace.core.kmemleak.suspect_kind import SuspectKind
from kleaktrace.core.ledger.free_history import Ending
from kleaktrace.core.repetition.repeated_stacks import RepeatedStacks
from kleaktrace.core.repetition.sign_test import Course
from kleaktrace.core.symbols import skb_heads
from kleaktrace.core.verdicts.judgement import Judgement
from kleaktrace.core.verdicts.repetition_rules import judge_repeated
from kleaktrace.core.verdicts.unload_rules import judge_unloaded, unlisted_suspect

if TYPE_CHECKING:
    from kleaktrace.core.kmemleak.report_parser import Suspect

_LISTED, _OLDER = "listed by kmemleak", "allocated before the window"
"""Why a suspect stands in the way of "clean", and why not."""

_NOT_TOLD = (Kind.PERCPU, Kind.PAGES)
"""kmemleak does not say whether it has an object at a per-CPU address, and never has one of pages (mm/kmemleak.c)."""

_PAGE_SIZES = (1 << 12, 1 << 14, 1 << 16)
_STABLE_READINGS = 2
"""So many last readings must agree: one alone may have caught a pointer on its way, or a stale one on a stack."""


@kept_uncollected()
def judge(evidence: Evidence, repeated: RepeatedStacks | None = None) -> list[JudgedSuspect]:
    """Judge every suspect of every reading, what unloaded modules left behind, and what every round did.

    Confirmed ones come first. repeated: of the same evidence, if somebody has counted the rounds already.
    """
    suspected = cases(evidence.ledger, evidence.readings, evidence.clock.hz)
    trial = Judgement(evidence, _stack_evidence(evidence, suspected), repeated or RepeatedStacks(evidence))
    judged = {case.key: _judge_suspect(trial, case) for case in suspected}
    # What is listed is judged. What was listed only before may be left behind all the same.
    matched = {case.matched.key: case for case in suspected if case.matches_row}
    listed = {place for place, case in matched.items() if case.listed_last}
    for place, left in judge_unloaded(trial, listed):
        if place not in matched:
            judged[*place, -1] = left
        elif left.verdict is not Verdict.UNDECIDED:
            judged[matched[place].key] = left
    for row, opinion, rounds in judge_repeated(trial, listed):
        which = matched[row.key].key if row.key in matched else (*row.key, -1)
        known = judged.get(which)
        if known is None or _says_more(opinion.verdict, known):
            known = unlisted_suspect(trial, row, SuspectSource.REPETITION, opinion)
        judged[which] = known._replace(rounds=rounds)
    _add_contrasts(evidence, judged)
    return _in_order(list(judged.values()))


def open_questions(evidence: Evidence, repeated: RepeatedStacks | None = None) -> list[Question]:
    """What `judge` would like to know from kmemleak, and the evidence does not tell; what matters most comes first."""
    asked = _Answers(evidence.answers)
    evidence = replace(evidence, answers=asked)
    suspected = cases(evidence.ledger, evidence.readings, evidence.clock.hz)
    trial = Judgement(evidence, _stack_evidence(evidence, suspected), repeated or RepeatedStacks(evidence))
    listed = {case.matched.key for case in suspected if case.matches_row and case.listed_last}
    for _ in (*judge_unloaded(trial, listed), *judge_repeated(trial, listed)):
        pass
    for case in suspected:
        if not case.listed_last:
            _judge_suspect(trial, case)
    return [question for question in asked.missing if question.kind not in _NOT_TOLD]


class _Answers(Mapping[Question, bool]):
    """Answers that remember what was asked in vain."""

    def __init__(self, known: Mapping[Question, bool]) -> None:
        self._known = known
        self.missing: dict[Question, None] = {}
        """In the order in which they were asked."""

    def __getitem__(self, question: Question) -> bool:
        if question not in self._known:
            self.missing[question] = None
        return self._known[question]

    def __iter__(self) -> Iterator[Question]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


def _says_more(by_rounds: Verdict, known: JudgedSuspect) -> bool:
    """Whether the rounds take the place of a verdict: they speak of what is referenced, too."""
    if known.verdict is Verdict.CONFIRMED:
        return False
    return by_rounds is Verdict.CONFIRMED or (known.source, known.verdict) == (SuspectSource.UNLOAD, Verdict.UNDECIDED)


def _in_order(judged: Sequence[JudgedSuspect]) -> list[JudgedSuspect]:
    """By verdict, those of the window first, the largest first, then by address."""
    rank = {verdict: number for number, verdict in enumerate(Verdict)}
    addresses = np.array([j.address for j in judged], np.uint64)
    sizes = np.array([-j.size for j in judged], np.int64)
    before_window = np.array([not j.in_window for j in judged], np.bool_)
    order = np.lexsort((addresses, sizes, before_window, np.array([rank[j.verdict] for j in judged], np.uint8)))
    return [judged[number] for number in order.tolist()]


def _stack_evidence(evidence: Evidence, suspected: Iterable[SuspectCase]) -> StackEvidence:
    rows = [case.matched for case in suspected if case.matches_row]
    listed = evidence.readings[-1] if evidence.readings else ()
    ended = {ending.stack for case in suspected for ending in (*case.endings, *case.watched)}
    stacks = {row.stack for row in rows} | ended
    return StackEvidence(evidence.ledger, evidence.names, evidence.loss, listed, stacks)


def _add_contrasts(evidence: Evidence, judged: dict[tuple[bool, int, int], JudgedSuspect]) -> None:
    """Add to the confirmed ones what those of one stack have in common that its freed allocations have not."""
    confirmed = [place for place, suspect in judged.items() if suspect.verdict is Verdict.CONFIRMED]
    percpu = np.array([of_percpu for of_percpu, _, _ in confirmed], np.bool_)
    _, rows = evidence.ledger.lookup(np.array([name for _, name, _ in confirmed], np.uint64), percpu)
    by_stack = {stack: places for stack, places in places_by_stack(rows) if stack}
    for places, freed in zip(by_stack.values(), evidence.ledger.freed_samples(by_stack), strict=True):
        found = tuple(contrasts(rows[places], freed)) if freed.size else ()
        for number in places.tolist() if found else ():
            judged[confirmed[number]] = judged[confirmed[number]]._replace(contrasts=found)


def _judge_suspect(trial: Judgement, case: SuspectCase) -> JudgedSuspect:
    if _predates(trial, case):
        return _judge_predating(trial, case)
    # What was watched is remembered even if it was freed young, or so long ago that the history has forgotten it.
    for ending in (*reversed(case.endings), *reversed(case.watched)):
        apart = signed_difference(ending.jiffies, case.suspect.jiffies)
        if ending.ending != Ending.UNMATCHED and same_time(apart, trial.evidence.clock.hz, ending.kind):
            return _judge_ended(trial, case, ending)
    if case.newer_row:
        return _verdict(trial, case, Verdict.DISMISSED, "freed and reused: its address now holds a newer allocation")
    if not case.matches_row:
        return _judge_unseen(trial, case)
    return _judge_outstanding(trial, case)


def _judge_predating(trial: Judgement, case: SuspectCase) -> JudgedSuspect:
    """Allocated before tracing began: all we can do is watch for its free."""
    for free in case.watched:
        site = trial.stacks.site(free.free_site)
        return _verdict(
            trial,
            case,
            Verdict.DISMISSED,
            f"freed by {site} while it was watched",
            freed=Freed(None, site),
            in_window=False,
        )
    if case.row is not None:
        reason = "freed and reused: its address now holds a newer allocation"
        return _verdict(trial, case, Verdict.DISMISSED, reason, in_window=False)
    if not case.listed_last:
        return _judge_no_longer_listed(trial, case)
    watched_s = trial.evidence.watched_s
    watched = f"in {watched_s:.0f} s of watching" if watched_s >= 1 else "since kmemleak listed it"
    reason = f"allocated before tracing began; no free seen {watched}{_misnamed(trial, case)}"
    if not skb_heads.is_made(frame.symbol or "" for frame in case.suspect.frames):
        return _verdict(trial, case, Verdict.UNDECIDED, reason, in_window=False)
    reason += "; but heads of skbs go round in NAPI's lists without an event, and it may have leaked since"
    return _verdict(trial, case, Verdict.UNDECIDED, reason, in_window=False)._replace(counts_against_clean=True)


def _misnamed(trial: Judgement, case: SuspectCase) -> str:
    """What is wrong with the names that kmemleak prints: it knows the modules of today only (lib/vsprintf.c, %pS)."""
    symbols = trial.evidence.names.symbols
    later = []
    for module in sorted({frame.module for frame in case.suspect.frames if frame.module}):
        loads, unloads = symbols.loads(module), symbols.unloads(module)
        if loads and not (unloads and unloads[0] < loads[0]):
            later.append(module)
    if not later:
        return ""
    were = f"{', '.join(later)} {'was' if len(later) == 1 else 'were'}"
    return f"; its callers may bear wrong names: {were} loaded later, perhaps to where another module had been"


def _judge_no_longer_listed(trial: Judgement, case: SuspectCase) -> JudgedSuspect:
    """Of a suspect whose allocation was not seen, only kmemleak knows whether it is still there.

    If it is, something points to it now; a stale word on some stack will do, so that is no reason to dismiss it.
    """
    kind = Kind.PERCPU if case.suspect.kind == SuspectKind.PERCPU else Kind.KMALLOC
    known = trial.evidence.answers.get(Question(case.suspect.untagged, kind, case.suspect.jiffies))
    verdict, reason = Verdict.UNDECIDED, "no longer listed: freed, or something points to it now, perhaps by chance"
    if known is False:
        verdict, reason = Verdict.DISMISSED, "freed meanwhile: kmemleak no longer has it"
    if known:
        reason = "no longer listed: something points to it now, perhaps by chance"
    return _verdict(trial, case, verdict, reason, in_window=not _predates(trial, case))


def _predates(trial: Judgement, case: SuspectCase) -> bool:
    return trial.evidence.clock.before_start(case.suspect.jiffies, JIFFIES_TOLERANCE) and not case.matches_row


def _judge_ended(trial: Judgement, case: SuspectCase, ending: EndedAllocation) -> JudgedSuspect:
    """Matched, and its end was seen."""
    after_s = (ending.closed_ns - ending.time_ns) / 1e9
    if ending.ending == Ending.IMPLIED:
        reason = f"freed and reused: {after_s:.3f} s after its allocation its address was allocated again"
        return _verdict(trial, case, Verdict.DISMISSED, reason, closed=ending)
    site = trial.stacks.site(ending.free_site)
    reason = f"freed {after_s:.3f} s after its allocation by {site}"
    return _verdict(trial, case, Verdict.DISMISSED, reason, freed=Freed(after_s, site), closed=ending)


def _judge_unseen(trial: Judgement, case: SuspectCase) -> JudgedSuspect:
    """Allocated in the window, but its allocation was not seen."""
    if not case.listed_last:
        return _judge_no_longer_listed(trial, case)
    lost = trial.evidence.loss.events
    if lost:
        return _verdict(trial, case, Verdict.UNDECIDED, f"its allocation was not seen: {lost} events were lost")
    if case.suspect.kind == SuspectKind.PHYS:
        reason = "a physical address: such allocations have no event to trace"
        return _verdict(trial, case, Verdict.UNDECIDED, reason)
    reason = "its allocation was not seen: it came by a path without an event, or was filtered out"
    return _verdict(trial, case, Verdict.UNDECIDED, reason)


def _judge_outstanding(trial: Judgement, case: SuspectCase) -> JudgedSuspect:
    """Matched, and no free was seen."""
    if case.missed_last >= _STABLE_READINGS:
        reason = f"referenced again: listed by one scan, not by the {case.missed_last} after it"
        return _verdict(trial, case, Verdict.DISMISSED, reason)
    row = case.matched
    for doubt in _DOUBTS:
        reason = doubt(trial, case, row)
        if reason:
            return _verdict(trial, case, Verdict.UNDECIDED, reason)
    reason = f"not freed, and nothing has pointed to it in {case.listed_last} scans"
    return _verdict(trial, case, Verdict.CONFIRMED, reason)


def _sizes_differ(trial: Judgement, case: SuspectCase, row: OutstandingAllocation) -> str:
    asked, given = row.bytes_req, row.bytes_alloc
    size = case.suspect.size
    if asked <= size <= given:
        return ""
    if row.kind == Kind.VMALLOC and _is_in_huge_pages(asked, size):
        return ""
    if row.kind == Kind.VMALLOC and counts_guard_pages(trial.evidence.coverage) and _is_without_guard_page(asked, size):
        return ""
    return f"sizes differ: kmemleak says {size} bytes, traced were {asked} asked for and {given} given"


def _is_in_huge_pages(asked: int, size: int) -> bool:
    """Whether `size` bytes are what was asked for in whole pages of some huge size, of which it fills one at least.

    vmalloc gives such where the machine can map them (mm/vmalloc.c, `__vmalloc_node_range`).
    """
    page = min(size & -size, 1 << asked.bit_length() - 1)
    return 0 <= size - asked < page


def _is_without_guard_page(asked: int, size: int) -> bool:
    """Whether `asked` is `size` and a page behind it, which is never mapped (mm/vmalloc.c, `__get_vm_area_node`)."""
    return asked - size in _PAGE_SIZES and size % (asked - size) == 0


def _scans_disagree(_: Judgement, case: SuspectCase, __: OutstandingAllocation) -> str:
    if case.missed_last:
        return "listed by one scan, but not by the last; scan again"
    return "listed by the last scan only; scan again" if case.listed_last < _STABLE_READINGS else ""


def _loss_in_lifetime(trial: Judgement, _: SuspectCase, row: OutstandingAllocation) -> str:
    lost = trial.stacks.lost_since(row.time_ns, row.kind)
    return f"{lost} events were lost in its lifetime" if lost else ""


def _siblings_live_longer(trial: Judgement, _: SuspectCase, row: OutstandingAllocation) -> str:
    """A reason to wait: siblings are freed at an age that this one has not reached, as far as their number tells."""
    known, age_ns = trial.stacks.of(row.stack), trial.age_ns(row)
    if not row.stack or age_ns >= known.old_enough_ns:
        return ""
    lifetimes = known.lifetimes
    return (
        f"too young: {lifetimes.freed} siblings {known.likeness} were freed, the last at an age of "
        f"{lifetimes.longest_ns / 1e9:.1f} s; this one is {age_ns / 1e9:.1f} s old, and {lifetimes.chance(age_ns):.0%} "
        "of such live longer"
    )


def _siblings_freed_unseen(trial: Judgement, _: SuspectCase, row: OutstandingAllocation) -> str:
    """The same reason to wait, when the frees that would have told it may be among the events that were lost.

    How old such a sibling was when the loss ended is how old it may have become.
    """
    key, lost = row.stack, trial.stacks.lost_since(0, row.kind)
    if not key or not lost:
        return ""
    unseen = trial.stacks.unlisted_ages_at_loss_ns(key, row.kind)
    if min(unseen.size, lost) + trial.stacks.of(key).lifetimes.freed < ENOUGH:
        return ""
    age_ns = trial.age_ns(row)
    older = unseen.size - int(np.searchsorted(unseen, age_ns, side="right"))
    if not older:
        return ""
    return (
        f"events were lost: {older} siblings from the same stack may have been freed unseen when they were older than "
        f"this one, which is {age_ns / 1e9:.1f} s old"
    )


def _next_round_frees_it(trial: Judgement, _: SuspectCase, row: OutstandingAllocation) -> str:
    """Where something keeps a pointer as another number, kmemleak lists what it points to; the rounds know better."""
    rounds = trial.repeated.of(row.stack)
    if rounds is None or rounds.course is not Course.PENDING:
        return ""
    names = trial.evidence.names
    if any(names.symbols.unloaded_after(module, row.time_ns) for module in names.stacks.get(row.stack).modules):
        return ""
    return f"only the last of {rounds.left.size} rounds left any, so the next one may free it"


_DOUBTS = (
    _sizes_differ,
    _scans_disagree,
    _loss_in_lifetime,
    _siblings_live_longer,
    _siblings_freed_unseen,
    _next_round_frees_it,
)


def _kmemleak_context(suspect: Suspect) -> Context:
    """kmemleak writes the context in place of the comm (mm/kmemleak.c, __link_object)."""
    if suspect.pid == 0 and suspect.comm in ("hardirq", "softirq"):
        return Context.HARDIRQ if suspect.comm == "hardirq" else Context.SOFTIRQ
    return Context.TASK


def _verdict(
    trial: Judgement,
    case: SuspectCase,
    verdict: Verdict,
    reason: str,
    *,
    freed: Freed | None = None,
    closed: EndedAllocation | None = None,
    in_window: bool = True,
) -> JudgedSuspect:
    """A judged suspect, with all the evidence there is for it: ours if it was matched, else kmemleak's."""
    suspect, row = case.suspect, case.row if case.matches_row else None
    known = row if row is not None else closed
    if known is None:
        return _unmatched(trial, suspect, verdict, reason, freed, in_window)
    stack = trial.stacks.of(known.stack)
    return JudgedSuspect(
        source=SuspectSource.KMEMLEAK,
        address=suspect.untagged,
        size=suspect.size,
        verdict=verdict,
        reason=reason,
        age_s=trial.evidence.clock.age_s(suspect.jiffies) if row is None else trial.age_ns(row) / 1e9,
        comm=suspect.comm,
        pid=suspect.pid,
        context=_kmemleak_context(suspect) if row is None else trial.context(row),
        cache=trial.evidence.names.cache(known.kind, 0 if row is None else row.cache, known.bytes_alloc),
        stack=stack.lines or trial.stacks.printed(suspect),
        bytes_req=known.bytes_req,
        bytes_alloc=known.bytes_alloc,
        siblings=stack.siblings if known.stack else ALONE,
        freed=freed,
        in_window=in_window,
        counts_against_clean=in_window,
        rule=_LISTED if in_window else _OLDER,
        percpu=suspect.kind == SuspectKind.PERCPU,
        arguments=() if row is None else trial.arguments(row),
    )


def _unmatched(
    trial: Judgement, suspect: Suspect, verdict: Verdict, reason: str, freed: Freed | None, in_window: bool
) -> JudgedSuspect:
    return JudgedSuspect(
        source=SuspectSource.KMEMLEAK,
        address=suspect.untagged,
        size=suspect.size,
        verdict=verdict,
        reason=reason,
        age_s=trial.evidence.clock.age_s(suspect.jiffies),
        comm=suspect.comm,
        pid=suspect.pid,
        context=_kmemleak_context(suspect),
        cache="",
        stack=trial.stacks.printed(suspect),
        freed=freed,
        in_window=in_window,
        counts_against_clean=in_window,
        rule=_LISTED if in_window else _OLDER,
        percpu=suspect.kind == SuspectKind.PERCPU,
    )
