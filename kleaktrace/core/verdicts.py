"""The verdicts: what becomes of each suspect, and why. Every rule is a function with its reason beside it.

A verdict is right or it is `undecided`: what could not be seen never confirms and never dismisses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

import numpy as np

from kleaktrace.core.closed_history import Ending
from kleaktrace.core.contrast import Contrast, contrasts
from kleaktrace.core.coverage import Coverage, Loss
from kleaktrace.core.events import Context, Kind, hide
from kleaktrace.core.jiffies import JiffiesClock, signed_difference
from kleaktrace.core.kernel_names import KernelNames
from kleaktrace.core.kmemleak_text import Suspect
from kleaktrace.core.ledger import Ledger
from kleaktrace.core.stack_statistics import StackStatistics
from kleaktrace.core.stacks import Stack

JIFFIES_TOLERANCE = 2
"""kmemleak stamps its object a moment after the tracepoint fires (mm/kmemleak.c, __create_object)."""

_STABLE_READINGS = 2
"""So many last readings must agree: one alone may have caught a pointer on its way, or a stale one on a stack."""

_ENOUGH_SIBLINGS = 5
"""So many freed siblings say something about how long such objects normally live."""


_OPTIONAL_FREES: dict[int, tuple[str, str]] = {
    Kind.KMALLOC: ("slab-bulk-free", "bulk free (kfree_rcu)"),
    Kind.CACHE: ("slab-bulk-free", "bulk free (kfree_rcu)"),
    Kind.VMALLOC: ("vfree", "vfree"),
}
"""Ways of freeing that not every kernel shows, though it shows the allocations: (kind of coverage, in words)."""


_Place = tuple[bool, int]
"""Where an object is: whether among per-CPU offsets, and its hidden address."""


class Verdict(StrEnum):
    """What a suspect turned out to be."""

    CONFIRMED = "confirmed"
    DISMISSED = "dismissed"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class Siblings:
    """The allocations from the same call stack, the suspect among them."""

    allocated: int
    freed: int
    outstanding: int
    outstanding_bytes: int = 0
    median_lifetime_s: float | None = None
    free_sites: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Freed:
    """When (seconds after its allocation; None: the allocation was not seen) and where a suspect was freed."""

    after_s: float | None
    site: str


@dataclass(frozen=True, slots=True)
class JudgedSuspect:
    """A suspect with its verdict and the evidence.

    `size` is what kmemleak says (of an unload suspect, what the allocator gave), `bytes_req` what was asked for.
    `in_window` is False for what was allocated before tracing began. `weakens` is True if, left undecided, it stands
    in the way of calling the run clean.
    """

    source: str
    address: int
    size: int
    verdict: Verdict
    reason: str
    age_s: float
    comm: str
    pid: int
    context: Context
    cache: str
    stack: tuple[str, ...]
    bytes_req: int | None = None
    bytes_alloc: int | None = None
    siblings: Siblings = Siblings(0, 0, 0)
    freed: Freed | None = None
    in_window: bool = True
    weakens: bool = True
    contrasts: tuple[Contrast, ...] = ()


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that a verdict may use.

    readings: what kmemleak listed after each scan, oldest first. tracked: whether kmemleak still has an object at an
    address, of a `Kind`; None, or a None from it, where kmemleak cannot be asked. watched_s: for how long frees were
    watched after the first reading.
    """

    ledger: Ledger
    names: KernelNames
    clock: JiffiesClock
    loss: Loss
    coverage: Sequence[Coverage]
    readings: Sequence[Sequence[Suspect]] = ()
    tracked: Callable[[int, int], bool | None] | None = None
    watched_s: float = 0.0
    _statistics: dict[int, StackStatistics] = field(default_factory=dict, repr=False, compare=False)
    _unlisted: list[Any] = field(default_factory=list, repr=False, compare=False)
    _ages_at_loss: dict[int, Any] = field(default_factory=dict, repr=False, compare=False)

    def statistics(self, stack: int) -> StackStatistics:
        """The books of a stack, looked up once."""
        if stack not in self._statistics:
            (self._statistics[stack],) = self.ledger.stack_statistics([stack])
        return self._statistics[stack]

    def unlisted_ages_at_loss_ns(self, stack: int) -> Any:
        """How old those were, when events were last lost, that may have been freed unseen then: an array.

        They are outstanding by our books, they were there then, and kmemleak does not list them.
        """
        if not self._unlisted:
            self._unlisted.append(_unlisted(self.ledger.outstanding(), self.readings[-1]))
        if stack not in self._ages_at_loss:
            rows = self._unlisted[0]
            times = rows["time_ns"][rows["stack"] == stack].astype(np.int64)
            ages = max(window.to_ns for window in self.loss.windows) - times
            self._ages_at_loss[stack] = ages[ages >= 0]
        return self._ages_at_loss[stack]

    def covers(self, kind: str) -> bool:
        """Whether events of this kind were seen."""
        return any(c.kind == kind and c.source is not None for c in self.coverage)


def judge(evidence: Evidence) -> list[JudgedSuspect]:
    """Judge every suspect of every reading, and what unloaded modules left behind. Confirmed ones come first."""
    cases = _cases(evidence, _distinct(evidence.readings))
    judged = {case.place: _judge_suspect(evidence, case) for case in cases}
    # What is listed is judged. What was listed only before may be left behind all the same.
    listed = {case.place for case in cases if case.listed_last}
    matched = {_row_place(case.row): case.place for case in cases if case.row is not None and case.matches_row}
    for place, left in _judge_unloaded(evidence, {p for p, of in matched.items() if of in listed}):
        if place not in matched:
            judged[*place, -1] = left
        elif left.verdict is not Verdict.UNDECIDED:
            judged[matched[place]] = left
    contrasted = _with_contrasts(evidence, judged)
    order = list(Verdict)
    return sorted(contrasted, key=lambda j: (order.index(j.verdict), not j.in_window, -j.size, j.address))


def _with_contrasts(evidence: Evidence, judged: Mapping[tuple[bool, int, int], JudgedSuspect]) -> list[JudgedSuspect]:
    """Add to the confirmed ones what those of one stack have in common that its freed allocations have not."""
    confirmed = [place for place, suspect in judged.items() if suspect.verdict is Verdict.CONFIRMED]
    percpu = np.array([of_percpu for of_percpu, _, _ in confirmed], bool)
    _, rows = evidence.ledger.lookup(np.array([name for _, name, _ in confirmed], np.uint64), percpu)
    found: dict[int, tuple[Contrast, ...]] = {}
    for stack in np.unique(rows["stack"]).tolist():
        leaked = rows[rows["stack"] == stack]
        found[stack] = tuple(contrasts(leaked, evidence.ledger.freed_samples(stack))) if stack else ()
    of_place = {place: found[int(row["stack"])] for place, row in zip(confirmed, rows, strict=True)}
    return [replace(suspect, contrasts=of_place.get(place, ())) for place, suspect in judged.items()]


def _distinct(readings: Sequence[Sequence[Suspect]]) -> list[Suspect]:
    """Each suspect once, as the newest reading has it."""
    found: dict[tuple[str, int, int], Suspect] = {}
    for reading in readings:
        for suspect in reading:
            found[_identity(suspect)] = suspect
    return list(found.values())


def _identity(suspect: Suspect) -> tuple[str, int, int]:
    return suspect.kind, suspect.untagged, suspect.jiffies


@dataclass(frozen=True, slots=True)
class _Case:
    """One suspect and what the ledger knows about its address."""

    suspect: Suspect
    row: Any | None  # the OUTSTANDING row at its address
    endings: Sequence[Any]  # CLOSED rows at its address, oldest first
    watched: Sequence[Any]  # CLOSED rows seen since it was watched
    listed_last: int  # by how many last readings in a row
    missed_last: int  # or by how many it is not

    @property
    def place(self) -> tuple[bool, int, int]:
        """Which object: a `_Place`, and the time of allocation in jiffies."""
        return self.suspect.kind == "percpu", hide(self.suspect.untagged), self.suspect.jiffies

    @property
    def matches_row(self) -> bool:
        return self.row is not None and _same_time(int(self.row["jiffies"]), self.suspect.jiffies)

    @property
    def matched(self) -> Any:
        """The row, for where `matches_row` holds."""
        return self.row

    @property
    def newer_row(self) -> bool:
        return (
            self.row is not None
            and signed_difference(int(self.row["jiffies"]), self.suspect.jiffies) > JIFFIES_TOLERANCE
        )


def _same_time(row_jiffies: int, jiffies: int) -> bool:
    return abs(signed_difference(row_jiffies, jiffies & 0xFFFF_FFFF)) <= JIFFIES_TOLERANCE


def _cases(evidence: Evidence, suspects: Sequence[Suspect]) -> list[_Case]:
    """What the ledger and the readings say about each suspect, looked up for all of them at once."""
    names = np.array([hide(suspect.untagged) for suspect in suspects], np.uint64)
    percpu = np.array([suspect.kind == "percpu" for suspect in suspects], bool)
    found, rows = evidence.ledger.lookup(names, percpu)
    endings = _by_object(evidence.ledger.history(names, percpu))
    watched = _by_object(evidence.ledger.watched_frees())
    listings = [{_identity(suspect) for suspect in reading} for reading in evidence.readings]
    return [
        _Case(
            suspect,
            rows[number] if found[number] else None,
            endings.get((of_percpu, name), []),
            watched.get((of_percpu, name), []),
            _last(listings, _identity(suspect), listed=True),
            _last(listings, _identity(suspect), listed=False),
        )
        for number, (suspect, name, of_percpu) in enumerate(zip(suspects, names.tolist(), percpu.tolist(), strict=True))
    ]


def _by_object(closed: Any) -> dict[_Place, list[Any]]:
    """CLOSED rows by place, in their order."""
    found: dict[_Place, list[Any]] = {}
    for row in closed:
        found.setdefault(_row_place(row), []).append(row)
    return found


def _last(listings: Sequence[set[tuple[str, int, int]]], who: tuple[str, int, int], *, listed: bool) -> int:
    """How many readings, counted back from the last, list the suspect, or do not, without a break."""
    count = 0
    for listing in reversed(listings):
        if (who in listing) is not listed:
            break
        count += 1
    return count


def _judge_suspect(evidence: Evidence, case: _Case) -> JudgedSuspect:
    suspect = case.suspect
    if _predates(evidence, case):
        return _judge_predating(evidence, case)
    for ending in reversed(case.endings):
        if ending["ending"] != Ending.UNMATCHED and _same_time(int(ending["jiffies"]), suspect.jiffies):
            return _judge_ended(evidence, case, ending)
    if case.newer_row:
        return _verdict(evidence, case, Verdict.DISMISSED, "freed and reused: its address now holds a newer allocation")
    if not case.matches_row:
        return _judge_unseen(evidence, case)
    return _judge_outstanding(evidence, case)


def _judge_predating(evidence: Evidence, case: _Case) -> JudgedSuspect:
    """Allocated before tracing began: all we can do is watch for its free."""
    for free in case.watched:
        site = _site(evidence, int(free["free_site"]))
        return _verdict(
            evidence,
            case,
            Verdict.DISMISSED,
            f"freed by {site} while it was watched",
            freed=Freed(None, site),
            in_window=False,
        )
    if case.row is not None:
        reason = "freed and reused: its address now holds a newer allocation"
        return _verdict(evidence, case, Verdict.DISMISSED, reason, in_window=False)
    if not case.listed_last:
        return _judge_no_longer_listed(evidence, case)
    reason = f"allocated before tracing began; no free seen in {evidence.watched_s:.0f} s of watching"
    return _verdict(evidence, case, Verdict.UNDECIDED, reason, in_window=False)


def _judge_no_longer_listed(evidence: Evidence, case: _Case) -> JudgedSuspect:
    """Of a suspect whose allocation was not seen, only kmemleak knows whether it is still there.

    If it is, something points to it now; a stale word on some stack will do, so that is no reason to dismiss it.
    """
    kind = Kind.PERCPU if case.suspect.kind == "percpu" else Kind.KMALLOC
    known = None if evidence.tracked is None else evidence.tracked(case.suspect.untagged, kind)
    verdict, reason = Verdict.UNDECIDED, "no longer listed: freed, or something points to it now, perhaps by chance"
    if known is False:
        verdict, reason = Verdict.DISMISSED, "freed meanwhile: kmemleak no longer has an object there"
    if known:
        reason = "no longer listed: something points to it now, perhaps by chance"
    return _verdict(evidence, case, verdict, reason, in_window=not _predates(evidence, case))


def _predates(evidence: Evidence, case: _Case) -> bool:
    return evidence.clock.before_start(case.suspect.jiffies, JIFFIES_TOLERANCE) and not case.matches_row


def _judge_ended(evidence: Evidence, case: _Case, ending: Any) -> JudgedSuspect:
    """Matched, and its end was seen."""
    after_s = (int(ending["closed_ns"]) - int(ending["time_ns"])) / 1e9
    if ending["ending"] == Ending.IMPLIED:
        reason = f"freed and reused: {after_s:.3f} s after its allocation its address was allocated again"
        return _verdict(evidence, case, Verdict.DISMISSED, reason, closed=ending)
    site = _site(evidence, int(ending["free_site"]))
    reason = f"freed {after_s:.3f} s after its allocation by {site}"
    return _verdict(evidence, case, Verdict.DISMISSED, reason, freed=Freed(after_s, site), closed=ending)


def _judge_unseen(evidence: Evidence, case: _Case) -> JudgedSuspect:
    """Allocated in the window, but its allocation was not seen."""
    if not case.listed_last:
        return _judge_no_longer_listed(evidence, case)
    lost = evidence.loss.events
    if lost:
        return _verdict(evidence, case, Verdict.UNDECIDED, f"its allocation was not seen: {lost} events were lost")
    if case.suspect.kind == "phys":
        reason = "a physical address: such allocations have no event to trace"
        return _verdict(evidence, case, Verdict.UNDECIDED, reason)
    reason = "its allocation was not seen: it came by a path without an event, or was filtered out"
    return _verdict(evidence, case, Verdict.UNDECIDED, reason)


def _judge_outstanding(evidence: Evidence, case: _Case) -> JudgedSuspect:
    """Matched, and no free was seen."""
    if case.missed_last >= _STABLE_READINGS:
        reason = f"referenced again: listed by one scan, not by the {case.missed_last} after it"
        return _verdict(evidence, case, Verdict.DISMISSED, reason)
    doubts = (_sizes_differ, _scans_disagree, _loss_in_lifetime, _siblings_live_longer, _siblings_freed_unseen)
    for doubt in doubts:
        reason = doubt(evidence, case)
        if reason:
            return _verdict(evidence, case, Verdict.UNDECIDED, reason)
    reason = f"not freed, and nothing has pointed to it in {case.listed_last} scans"
    return _verdict(evidence, case, Verdict.CONFIRMED, reason)


def _sizes_differ(_: Evidence, case: _Case) -> str:
    asked, given = int(case.matched["bytes_req"]), int(case.matched["bytes_alloc"])
    size = case.suspect.size
    if asked <= size <= given:
        return ""
    return f"sizes differ: kmemleak says {size} bytes, traced were {asked} asked for and {given} given"


def _scans_disagree(_: Evidence, case: _Case) -> str:
    if case.missed_last:
        return "listed by one scan, but not by the last; scan again"
    return "listed by the last scan only; scan again" if case.listed_last < _STABLE_READINGS else ""


def _loss_in_lifetime(evidence: Evidence, case: _Case) -> str:
    lost = evidence.loss.within(int(case.matched["time_ns"]), evidence.clock.end.time_ns)
    return f"{lost} events were lost in its lifetime" if lost else ""


def _siblings_live_longer(evidence: Evidence, case: _Case) -> str:
    """A reason to wait: those allocated by the same stack are normally freed at a higher age than this one has."""
    key = int(case.matched["stack"])
    statistics = evidence.statistics(key)
    if not key or sum(n for _, n in statistics.lifetimes) < _ENOUGH_SIBLINGS:
        return ""
    age_ns = evidence.clock.end.time_ns - int(case.matched["time_ns"])
    usual_ns = statistics.lifetime_quantile(0.9) or 0.0
    if usual_ns <= age_ns:
        return ""
    return (
        f"too young: {statistics.frees} siblings from the same stack were freed, one in ten only after "
        f"{usual_ns / 1e9:.1f} s; this one is {age_ns / 1e9:.1f} s old"
    )


def _siblings_freed_unseen(evidence: Evidence, case: _Case) -> str:
    """The same reason to wait, when the frees that would have told it may be among the events that were lost.

    How old such a sibling was when the loss ended is how old it may have become.
    """
    key = int(case.matched["stack"])
    if not key or not evidence.loss.windows:
        return ""
    unseen = evidence.unlisted_ages_at_loss_ns(key)
    at_most = min(unseen.size, evidence.loss.events)
    if at_most + sum(n for _, n in evidence.statistics(key).lifetimes) < _ENOUGH_SIBLINGS:
        return ""
    age_ns = evidence.clock.end.time_ns - int(case.matched["time_ns"])
    older = int(np.count_nonzero(unseen > age_ns))
    if not older:
        return ""
    return (
        f"events were lost: {older} siblings from the same stack may have been freed unseen when they were older than "
        f"this one, which is {age_ns / 1e9:.1f} s old"
    )


def _unlisted(rows: Any, reading: Sequence[Suspect]) -> Any:
    """Those of the OUTSTANDING rows that a reading does not list."""
    of_percpu = rows["kind"] == Kind.PERCPU
    listed = np.zeros(rows.size, bool)
    for percpu, kind in ((True, of_percpu), (False, ~of_percpu)):
        names = [hide(suspect.untagged) for suspect in reading if (suspect.kind == "percpu") is percpu]
        listed |= kind & np.isin(rows["object"], np.array(names, np.uint64))
    return rows[~listed]


def _site(evidence: Evidence, call_site: int) -> str:
    return str(evidence.names.symbols.frame(call_site)) if call_site else "an unknown caller"


def _siblings(evidence: Evidence, stack: int) -> Siblings:
    statistics = evidence.statistics(stack)
    median = statistics.lifetime_quantile(0.5)
    return Siblings(
        statistics.allocations,
        statistics.frees + statistics.implied_frees,
        statistics.outstanding,
        statistics.outstanding_bytes,
        None if median is None else median / 1e9,
        tuple((_site(evidence, site), count) for site, count in statistics.free_sites),
    )


def _context_of(row: Any, stack: Stack) -> Context:
    context = Context(int(row["context"]))
    return stack.context if context is Context.UNKNOWN else context


def _kmemleak_context(suspect: Suspect) -> Context:
    """kmemleak writes the context in place of the comm (mm/kmemleak.c, __link_object)."""
    if suspect.pid == 0 and suspect.comm in ("hardirq", "softirq"):
        return Context.HARDIRQ if suspect.comm == "hardirq" else Context.SOFTIRQ
    return Context.TASK


def _verdict(
    evidence: Evidence,
    case: _Case,
    verdict: Verdict,
    reason: str,
    *,
    freed: Freed | None = None,
    closed: Any = None,
    in_window: bool = True,
) -> JudgedSuspect:
    """A judged suspect, with all the evidence there is for it: ours if it was matched, else kmemleak's."""
    suspect, row = case.suspect, case.row if case.matches_row else None
    key = int(row["stack"]) if row is not None else int(closed["stack"]) if closed is not None else 0
    stack = evidence.names.stacks.get(key)
    known = row if row is not None else closed
    cache = ""
    if known is not None:
        key_of_cache = int(row["cache"]) if row is not None else 0
        cache = evidence.names.cache(int(known["kind"]), key_of_cache, int(known["bytes_alloc"]))
    return JudgedSuspect(
        source="kmemleak",
        address=suspect.untagged,
        size=suspect.size,
        verdict=verdict,
        reason=reason,
        age_s=_age_s(evidence, suspect, row),
        comm=suspect.comm,
        pid=suspect.pid,
        context=_context_of(row, stack) if row is not None else _kmemleak_context(suspect),
        cache=cache,
        stack=tuple(stack.lines()) or tuple(frame.text for frame in suspect.frames),
        bytes_req=int(known["bytes_req"]) if known is not None else None,
        bytes_alloc=int(known["bytes_alloc"]) if known is not None else None,
        siblings=_siblings(evidence, key) if key else Siblings(0, 0, 0),
        freed=freed,
        in_window=in_window,
        weakens=in_window,
    )


def _age_s(evidence: Evidence, suspect: Suspect, row: Any | None) -> float:
    if row is not None:
        return float(evidence.clock.end.time_ns - int(row["time_ns"])) / 1e9
    return evidence.clock.age_s(suspect.jiffies)


def _judge_unloaded(evidence: Evidence, listed: Set[_Place]) -> Iterator[tuple[_Place, JudgedSuspect]]:
    """What modules that are gone have left behind, though something may still point at it; not what is `listed`."""
    rows = evidence.ledger.outstanding()
    behind = {key: _modules_behind(evidence.names.stacks.get(key)) for key in np.unique(rows["stack"]).tolist()}
    gone = evidence.names.symbols.unloaded
    suspected = [key for key, modules in behind.items() if any(module in gone for module, _ in modules)]
    for row in rows[np.isin(rows["stack"], np.array(suspected, np.uint64))]:
        place = _row_place(row)
        if place in listed or _is_bookkeeping(evidence, row):
            continue
        for module, own_code in behind[int(row["stack"])]:
            gone_ns = evidence.names.symbols.unloaded_after(module, int(row["time_ns"]))
            if gone_ns is not None:
                yield place, _judge_left(evidence, row, module, own_code, gone_ns)
                break


def _row_place(row: Any) -> _Place:
    return int(row["kind"]) == Kind.PERCPU, int(row["object"])


def _is_bookkeeping(evidence: Evidence, row: Any) -> bool:
    """Whether this is a slab object that vmalloc or the per-CPU allocator took to describe what it gave out.

    It goes when that goes, which is judged for itself.
    """
    slab = int(row["kind"]) in (Kind.KMALLOC, Kind.CACHE)
    return slab and evidence.names.stacks.get(int(row["stack"])).below_machinery


def _modules_behind(stack: Stack) -> list[tuple[str, bool]]:
    """The modules an allocation passes through, and whether the module's own code asked; that one first."""
    asker = stack.asker
    own = asker.module if asker is not None else None
    others = sorted(stack.modules - {own})
    return ([(own, True)] if own else []) + [(module, False) for module in others]


def _judge_left(evidence: Evidence, row: Any, module: str, own_code: bool, gone_ns: int) -> JudgedSuspect:
    stack = evidence.names.stacks.get(int(row["stack"]))
    verdict, reason = _left_verdict(evidence, row, module, own_code, gone_ns)
    return JudgedSuspect(
        source="unload",
        address=hide(int(row["object"])),
        size=int(row["bytes_alloc"]),
        verdict=verdict,
        reason=reason,
        age_s=(evidence.clock.end.time_ns - int(row["time_ns"])) / 1e9,
        comm=bytes(row["comm"]).decode(errors="replace"),
        pid=int(row["tid"]),
        context=_context_of(row, stack),
        cache=evidence.names.cache(int(row["kind"]), int(row["cache"]), int(row["bytes_alloc"])),
        stack=tuple(stack.lines()),
        bytes_req=int(row["bytes_req"]),
        bytes_alloc=int(row["bytes_alloc"]),
        siblings=_siblings(evidence, int(row["stack"])),
        weakens=own_code,
    )


def _left_verdict(evidence: Evidence, row: Any, module: str, own_code: bool, gone_ns: int) -> tuple[Verdict, str]:
    end_ns = evidence.clock.end.time_ns
    since = f"{module} was unloaded {(end_ns - gone_ns) / 1e9:.1f} s ago"
    known = None if evidence.tracked is None else evidence.tracked(hide(int(row["object"])), int(row["kind"]))
    if known is False:
        return Verdict.DISMISSED, "freed by a path without an event: kmemleak no longer has an object there"
    if not own_code:
        return Verdict.UNDECIDED, f"{since}; core code allocated this on its behalf, and may keep it on purpose"
    lost = evidence.loss.within(int(row["time_ns"]), end_ns)
    if lost:
        return Verdict.UNDECIDED, f"{since}, but {lost} events were lost in its lifetime"
    free = _OPTIONAL_FREES.get(int(row["kind"]))
    if known is None and free is not None and not evidence.covers(free[0]):
        return Verdict.UNDECIDED, f"{since}; a {free[1]} could not have been seen on this kernel"
    return Verdict.CONFIRMED, f"{since}, and its own code never freed this"
