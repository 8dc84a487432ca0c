# SPDX-License-Identifier: GPL-2.0-or-later
"""The tables that `query` and `export --format parquet` offer; docs/queries.md describes each column.

Addresses are hexadecimal text, as in kernel logs: an int64 would show them as negative. `key` is the call stack's, the
same across boots and builds. Times are UTC, ages count to the end of the recording.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import Context, Kind, Rows, address_of, comm_text
from kleaktrace.core.leaked_objects.leaks import stack_key
from kleaktrace.core.ledger.stack_counters import bin_range
from kleaktrace.core.recording import Recording
from kleaktrace.core.report import Report
from kleaktrace.core.symbols.call_stacks import function_of
from kleaktrace.core.tables.stack_rows import StackRow, stack_rows
from kleaktrace.core.tables.table import (
    Table,
    integers,
    lists,
    optional_integers,
    reals,
    texts,
    times,
    truths,
)

_CONTEXTS = {int(context): context.name.lower() for context in Context}
_KINDS = {int(kind): kind.name.lower() for kind in Kind}


def recording_tables(recording: Recording, report: Report) -> list[Table]:
    """All tables; `report` is one of this recording."""
    rows = stack_rows(recording, report)
    return [
        _stacks(recording, report, rows),
        _counters(recording, rows),
        _outstanding(recording, rows),
        _lifetimes(recording, rows),
        _suspects(report),
        _loss(recording),
        _machine(recording, report),
    ]


def _stacks(recording: Recording, report: Report, rows: Sequence[StackRow]) -> Table:
    now_ns, sites = report.now_ns, _free_sites(recording, rows)
    return Table(
        "stacks",
        {
            "key": texts(row.key for row in rows),
            "function": texts(_requester(row) for row in rows),
            "module": texts(_module(row) for row in rows),
            "frames": lists(row.stack.lines() for row in rows),
            "verdict": texts(str(row.verdict) for row in rows),
            "caches": lists(row.caches for row in rows),
            "contexts": lists(row.contexts for row in rows),
            "outstanding": integers([row.outstanding for row in rows]),
            "outstanding_bytes": integers([row.outstanding_bytes for row in rows]),
            "oldest_s": reals([np.nan if row.oldest_ns is None else _age(now_ns, row.oldest_ns) for row in rows]),
            "allocations": integers([row.allocations for row in rows]),
            "allocated_bytes": integers([row.allocated_bytes for row in rows]),
            "frees": integers([row.frees for row in rows]),
            "implied_frees": integers([row.implied_frees for row in rows]),
            "free_site": texts(site for site, _ in sites),
            "free_site_frees": integers([frees for _, frees in sites]),
        },
    )


def _counters(recording: Recording, rows: Sequence[StackRow]) -> Table:
    """How much was outstanding when, from the first sample on in which a stack had anything."""
    keys, owners = _ledger_keys(rows)
    sampled = np.array(recording.history.times_ns, np.int64)
    levels = np.zeros((len(rows), sampled.size))
    np.add.at(levels, owners, recording.history.levels(keys).T)
    begun = np.maximum.accumulate(levels > 0, axis=1)
    stacks, samples = np.nonzero(begun)
    return Table(
        "counters",
        {
            "key": texts(_key_column(rows).take(stacks)),
            "sampled_at": times(_moments(recording, sampled.take(samples))),
            "outstanding_bytes": integers(levels[stacks, samples]),
        },
    )


def _outstanding(recording: Recording, rows: Sequence[StackRow]) -> Table:
    """One row for each allocation."""
    found = recording.ledger.outstanding()
    found = found[np.lexsort((found["object"], found["time_ns"]))]
    born_ns = found["time_ns"].astype(np.int64)
    return Table(
        "outstanding",
        {
            "key": texts(_keys_of(found["stack"], rows)),
            "address": texts(f"{address_of(*one):#x}" for one in found[["kind", "object"]].tolist()),
            "allocated_at": times(_moments(recording, born_ns)),
            "age_s": reals(np.maximum(recording.clock.end.time_ns - born_ns, 0) / 1e9),
            "bytes": integers(found["bytes_alloc"]),
            "bytes_asked_for": integers(found["bytes_req"]),
            "cache": texts(_caches(recording, found)),
            "allocator": texts(_named(found["kind"], _KINDS)),
            "context": texts(_named(found["context"], _CONTEXTS)),
            "comm": texts(_comms(found["comm"])),
            "pid": integers(found["tgid"]),
            "tid": integers(found["tid"]),
            "cpu": integers(found["cpu"]),
            "cgroup": integers(found["cgroup"]),
            "gfp_flags": integers(found["gfp_flags"]),
        },
    )


def _lifetimes(recording: Recording, rows: Sequence[StackRow]) -> Table:
    """How many allocations of a stack were freed at which age, in bins of a quarter of an octave."""
    keys, owners = _ledger_keys(rows)
    by_key = recording.ledger.lifetime_counts(keys)
    places, bins = np.nonzero(by_key)
    cells: Counter[tuple[int, int]] = Counter()
    for cell, frees in zip(zip(owners[places].tolist(), bins.tolist(), strict=True), by_key[places, bins], strict=True):
        cells[cell] += int(frees)
    ranges = [bin_range(number) for _, number in cells]
    return Table(
        "lifetimes",
        {
            "key": texts(rows[owner].key for owner, _ in cells),
            "from_s": reals([low / 1e9 for low, _ in ranges]),
            "to_s": reals([high / 1e9 for _, high in ranges]),
            "frees": integers(list(cells.values())),
        },
    )


def _suspects(report: Report) -> Table:
    suspects = report.suspects
    freed = [suspect.freed for suspect in suspects]
    return Table(
        "suspects",
        {
            "key": texts(stack_key(suspect.stack) for suspect in suspects),
            "source": texts(str(suspect.source) for suspect in suspects),
            "verdict": texts(str(suspect.verdict) for suspect in suspects),
            "reason": texts(suspect.reason for suspect in suspects),
            "rule": texts(suspect.rule or None for suspect in suspects),
            "address": texts(f"{suspect.address:#x}" for suspect in suspects),
            "bytes": integers([suspect.size for suspect in suspects]),
            "age_s": reals([suspect.age_s for suspect in suspects]),
            "cache": texts(suspect.cache for suspect in suspects),
            "context": texts(suspect.context.name.lower() for suspect in suspects),
            "comm": texts(suspect.comm for suspect in suspects),
            "pid": integers([max(suspect.pid, 0) for suspect in suspects]),
            "frames": lists(suspect.stack for suspect in suspects),
            "in_window": truths([suspect.in_window for suspect in suspects]),
            "counts_against_clean": truths([suspect.counts_against_clean for suspect in suspects]),
            "freed_after_s": reals([np.nan if one is None or one.after_s is None else one.after_s for one in freed]),
            "freed_at": texts(None if one is None else one.site for one in freed),
        },
    )


def _loss(recording: Recording) -> Table:
    windows = recording.loss.windows
    return Table(
        "loss",
        {
            "from_at": times(_moments(recording, np.array([window.from_ns for window in windows], np.int64))),
            "to_at": times(_moments(recording, np.array([window.to_ns for window in windows], np.int64))),
            "events": integers([window.events for window in windows]),
            "frees": optional_integers(None if window.frees is None else window.all_frees for window in windows),
        },
    )


def _machine(recording: Recording, report: Report) -> Table:
    """One row: what was recorded, and what came of it."""
    totals, loss, missing = report.totals, report.loss, report.findings.missing
    return Table(
        "machine",
        {
            "kernel": texts([report.kernel.release]),
            "arch": texts([report.kernel.arch]),
            "started": times([_started(recording)]),
            "seconds": reals([report.window.seconds]),
            "verdict": texts([str(report.outcome)]),
            "gaps": lists([report.gaps]),
            "allocations": integers([totals.allocations]),
            "frees": integers([totals.frees]),
            "implied_frees": integers([totals.implied_frees]),
            "unknown_frees": integers([totals.unknown_frees]),
            "outstanding": integers([totals.outstanding]),
            "outstanding_bytes": integers([totals.outstanding_bytes]),
            "lost_events": integers([loss.events]),
            "lost_stacks": integers([loss.stacks]),
            "lost_names": integers([loss.names]),
            "missing": lists([[str(one) for one in missing]]),
            "missing_bytes": integers([sum(one.bytes for one in missing)]),
        },
    )


def _ledger_keys(rows: Sequence[StackRow]) -> tuple[U64, Index]:
    """All keys of the ledger, and the row that each belongs to."""
    keys = np.array(list(chain.from_iterable(row.ledger_keys for row in rows)), np.uint64)
    return keys, np.repeat(np.arange(len(rows)), [len(row.ledger_keys) for row in rows])


def _key_column(rows: Sequence[StackRow]) -> npt.NDArray[Any]:
    return np.fromiter((row.key for row in rows), object, len(rows))


def _keys_of(stacks: U64, rows: Sequence[StackRow]) -> npt.NDArray[Any]:
    """The keys by name of stacks by their keys in the ledger, which has all of them."""
    keys, owners = _ledger_keys(rows)
    order = np.argsort(keys)
    return _key_column(rows).take(owners[order].take(np.searchsorted(keys[order], stacks)))


def _free_sites(recording: Recording, rows: Sequence[StackRow]) -> list[tuple[str | None, int]]:
    """Of each row the place that freed the most, and how many; None if nothing was freed."""
    keys, owners = _ledger_keys(rows)
    sites: list[Counter[int]] = [Counter() for _ in rows]
    for one, owner in zip(recording.ledger.stack_statistics(keys.tolist()), owners.tolist(), strict=True):
        sites[owner].update(dict(one.free_sites))
    most = [min(of_row.items(), key=lambda site: (-site[1], site[0]), default=(0, 0)) for of_row in sites]
    return [(str(recording.names.sites.frame(site)) if site else None, frees) for site, frees in most]


def _requester(row: StackRow) -> str | None:
    requester = row.stack.requester
    return function_of(requester.name) if requester and requester.name else None


def _module(row: StackRow) -> str | None:
    return row.stack.module or None


def _caches(recording: Recording, found: Rows) -> npt.NDArray[Any]:
    kinds, which = np.unique(found[["kind", "cache", "bytes_alloc"]], return_inverse=True)
    names = [recording.names.cache(*kind) or None for kind in kinds.tolist()]
    return np.fromiter(names, object, len(names)).take(which)


def _comms(comms: npt.NDArray[Any]) -> npt.NDArray[Any]:
    known, which = np.unique(comms, return_inverse=True)
    return np.fromiter((comm_text(comm) for comm in known.tolist()), object, known.size).take(which)


def _named(numbers: npt.NDArray[Any], names: dict[int, str]) -> npt.NDArray[Any]:
    known, which = np.unique(numbers, return_inverse=True)
    return np.fromiter((names.get(number) for number in known.tolist()), object, known.size).take(which)


def _started(recording: Recording) -> np.datetime64:
    return np.datetime64(recording.started.astimezone(UTC).replace(tzinfo=None), "us")


def _moments(recording: Recording, times_ns: npt.NDArray[np.int64]) -> npt.NDArray[np.datetime64]:
    """Times of CLOCK_MONOTONIC as UTC."""
    since_start: npt.NDArray[np.timedelta64] = (times_ns - recording.clock.start.time_ns).astype("timedelta64[ns]")
    moments: npt.NDArray[np.datetime64] = _started(recording) + since_start.astype("timedelta64[us]")
    return moments  # by name: numpy 2.5 says less of the sum's type


def _age(now_ns: int, born_ns: int) -> float:
    return max(now_ns - born_ns, 0) / 1e9
