# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger against the naive one on streams of every kind, cut into batches anyhow; and its promises one by one."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from colliding_keys import unspread
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_ledger import NaiveLedger

from kleaktrace.core.events.loss import LossWindow
from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Context, Kind
from kleaktrace.core.ledger import ending_memory, outstanding_table
from kleaktrace.core.ledger.free_history import Ending
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.ledger.stack_counters import bin_range, lifetime_bins

MS = 1_000_000
SECOND = 1_000 * MS
BASE = 0xFFFF888100000000


def allocation(address=BASE, time_ns=1000, **fields) -> dict:
    defaults = {
        "call_site": 0xFFFFFFFF81000001,
        "stack": 0xABCDEF,
        "cgroup": 7,
        "bytes_req": 100,
        "bytes_alloc": 128,
        "comm": b"modprobe",
        "cache": 0,
        "jiffies": 4_294_900_000,
        "gfp_flags": 0xCC0,
        "tid": 42,
        "tgid": 41,
        "cpu": 1,
        "kind": Kind.KMALLOC,
        "context": Context.TASK,
    }
    return {"free": False, "object": address, "time_ns": time_ns, **defaults, **fields}


def free(address=BASE, time_ns=2000, **fields) -> dict:
    defaults = {"call_site": 0xFFFFFFFF81000002, "tid": 43, "cpu": 0, "kind": Kind.KMALLOC, "context": 0}
    return {"free": True, "object": address, "time_ns": time_ns, **defaults, **fields}


def batch(events: list[dict], first_sequence: int = 0, step: int = 1) -> Batch:
    kinds = {False: ALLOCATION, True: FREE}
    rows = {}
    for is_free, dtype in kinds.items():
        chosen = [(n, event) for n, event in enumerate(events) if event["free"] is is_free]
        rows[is_free] = np.zeros(len(chosen), dtype)
        for row, (n, event) in zip(rows[is_free], chosen, strict=True):
            row["sequence"] = first_sequence + n * step
            for name, value in event.items():
                if name != "free":
                    row[name] = value
    return Batch(allocations=rows[False], frees=rows[True])


def played(*events: dict, **options) -> Ledger:
    ledger = Ledger(**options)
    ledger.apply(batch(list(events)))
    return ledger


# Few addresses, so that they are reused; each of the ranges that kernels have.
addresses = st.one_of(
    st.integers(0, 5).map(lambda n: BASE + n * 64),
    st.integers(0, 2).map(lambda n: 0xFF11000012340000 + n * 4096),
    st.integers(0, 2).map(lambda n: 0x607F00000000 + n * 8),
    st.integers(0, 3).map(lambda n: int(unspread(np.array([(5 << 32) + n], np.uint64))[0])),
)
kinds = st.sampled_from([Kind.KMALLOC, Kind.KMALLOC, Kind.CACHE, Kind.VMALLOC, Kind.PERCPU])
sizes = st.sampled_from([8, 4096, 16384, 16384, 5 << 30, 2**31])
ages = st.sampled_from([-50, 0, 1, 700, 900_000, 1_000_001, 3 * SECOND])


@st.composite
def streams(draw) -> list[dict]:
    """Events in order; clocks mostly run forwards, as between CPUs."""
    events, now = [], 10 * SECOND
    for _ in range(draw(st.integers(0, 40))):
        now += draw(ages)
        if draw(st.booleans()):
            events.append(
                free(draw(addresses), now, call_site=draw(st.integers(1, 3)), kind=draw(kinds)),
            )
            continue
        fields = {
            "kind": draw(kinds),
            "bytes_alloc": draw(sizes),
            "stack": draw(st.sampled_from([0, 1, 2, 2**64 - 1])),
            "call_site": draw(st.integers(1, 2)),
            "context": draw(st.sampled_from([0, 1, 2, 3, 255])),
            "jiffies": draw(st.sampled_from([2**32 - 1, 0, 1, 5])),
            "cache": draw(st.integers(0, 1)),
            "comm": draw(st.sampled_from([b"", b"x", b"sixteen letters!"])),
            "tid": draw(st.integers(1, 2)),
        }
        first = allocation(draw(addresses), now, **fields)
        events.append(first)
        for _ in range(draw(st.sampled_from([0, 0, 0, 1, 1, 2, 3]))):
            site = 3 - events[-1]["call_site"]
            events.append({**first, "call_site": site, "stack": 7, "time_ns": now, "context": 0})
    return events


def cut(draw, events: list[dict]) -> list[list[dict]]:
    at = sorted(draw(st.lists(st.integers(0, len(events)), max_size=5)))
    return [events[a:b] for a, b in zip([0, *at], [*at, len(events)], strict=True)]


def rows_of(table: np.ndarray) -> list[tuple]:
    return sorted(tuple(row) for row in table.tolist())


@given(st.data())
@settings(max_examples=400, deadline=None)
@pytest.mark.thorough
def test_ledger_equals_the_naive_one_however_the_stream_is_cut(data):
    events = data.draw(streams())
    minimum = data.draw(st.sampled_from([0, 1000, SECOND]))
    watched = data.draw(st.lists(addresses, max_size=4))
    watch_from = data.draw(st.integers(0, 5))
    ledger, naive = Ledger(history_min_lifetime_ns=minimum), NaiveLedger(minimum)
    sequence, step = 0, data.draw(st.sampled_from([1, 3, 1000]))
    worth_sweeping = data.draw(st.sampled_from([0, outstanding_table._WORTH_SWEEPING]))
    for number, part in enumerate(cut(data.draw, events)):
        if number == watch_from:
            for percpu in (False, True):
                ledger.watch(watched, percpu)
                naive.watched |= {(percpu, address) for address in watched}
        with mock.patch.object(outstanding_table, "_WORTH_SWEEPING", worth_sweeping):
            ledger.apply(batch(part, sequence, step))
        naive.apply(part)
        sequence += len(part) * step

    assert rows_of(ledger.outstanding()) == sorted(
        tuple(event[name] for name in OUTSTANDING.names) for event in naive.table.values()
    )
    check_books(ledger, naive)
    check_endings(ledger, naive)


def check_books(ledger: Ledger, naive: NaiveLedger) -> None:
    totals = ledger.totals()
    assert totals.outstanding == len(naive.table)
    assert totals.outstanding_bytes == sum(event["bytes_alloc"] for event in naive.table.values())
    assert totals.unknown_frees == naive.unknown_frees
    assert totals.double_events == naive.double_events
    assert totals.allocations == sum(stack.allocations for stack in naive.stacks.values())
    assert totals.frees == sum(len(stack.lifetimes) for stack in naive.stacks.values())
    assert totals.implied_frees == sum(stack.implied_frees for stack in naive.stacks.values())
    assert totals.allocations == totals.frees + totals.implied_frees + totals.outstanding
    assert ledger.implied_frees_by_cache == dict(naive.implied_by_cache)

    for got, want in zip(ledger.stack_statistics(naive.stacks), naive.stacks.values(), strict=True):
        assert got.allocations == want.allocations
        assert got.bytes_allocated == want.bytes_allocated
        assert got.frees == len(want.lifetimes)
        assert got.implied_frees == want.implied_frees
        assert got.outstanding == want.allocations - len(want.lifetimes) - want.implied_frees
        assert got.outstanding_bytes == want.bytes_allocated - want.bytes_closed
        assert got.contexts == +want.contexts
        assert dict(got.free_sites) == want.free_sites
        assert got.lifetime_sum_ns == pytest.approx(sum(want.lifetimes))
        assert got.lifetime_max_ns == max(want.lifetimes, default=0)
        assert [count for _, count in got.lifetimes] == counts_in_bins(want.lifetimes)

    counters = ledger.snapshot()
    assert int(counters.outstanding.sum()) == totals.outstanding
    assert set(counters.stacks.tolist()) == naive.stacks.keys()


def counts_in_bins(lifetimes: list[int]) -> list[int]:
    bins = lifetime_bins(np.array(lifetimes, np.uint64))
    return np.unique(bins, return_counts=True)[1].tolist()


def check_endings(ledger: Ledger, naive: NaiveLedger) -> None:
    fields = ["object", "time_ns", "closed_ns", "stack", "free_site", "jiffies", "ending"]
    asked = {address for _, address, *_ in naive.endings} | {BASE, 1}
    for percpu in (False, True):
        got = ledger.history(sorted(asked), percpu)
        want = [tuple(ending) for of_percpu, *ending in naive.endings if of_percpu is percpu]
        assert got[fields].tolist() == want
    assert ledger.history_complete_since_ns == 0
    assert ledger.watched_frees()[fields].tolist() == naive.watched_endings


def test_all_fields_come_back():
    event = allocation(comm=b"\xff\x1b[2J", cache=99, bytes_alloc=2**63, gfp_flags=2**32 - 1, cpu=65535, tid=1)
    ledger = played(event)
    (row,) = ledger.outstanding()
    assert row.tolist() == tuple(event[name] for name in OUTSTANDING.names)
    found, rows = ledger.lookup([BASE + 1, BASE])
    assert found.tolist() == [False, True]
    assert rows[1] == row
    assert rows[0]["object"] == 0


def test_percpu_offsets_are_a_name_space_of_their_own():
    ledger = played(allocation(kind=Kind.PERCPU, stack=1), allocation(stack=2), free(kind=Kind.PERCPU))
    assert ledger.lookup(BASE)[1]["stack"].tolist() == [2]
    assert ledger.lookup(BASE, percpu=True)[0].tolist() == [False]
    assert ledger.totals().implied_frees == 0


def test_kfree_frees_what_another_allocator_gave():
    assert played(allocation(kind=Kind.CACHE, cache=5), free()).totals().frees == 1


LARGE = {"bytes_req": 9000, "bytes_alloc": 16384}


def test_large_kmalloc_reported_twice_is_one_allocation_of_the_second_caller():
    ledger = played(allocation(stack=1, call_site=1, **LARGE), allocation(stack=2, call_site=2, **LARGE))
    assert ledger.outstanding()["call_site"].tolist() == [2]
    totals = ledger.totals()
    assert (totals.allocations, totals.implied_frees, totals.double_events) == (1, 0, 1)
    inner, outer = ledger.stack_statistics([1, 2])
    assert (inner.allocations, inner.bytes_allocated, inner.contexts) == (0, 0, {})
    assert (outer.allocations, outer.bytes_allocated) == (1, 16384)


@pytest.mark.parametrize(
    "difference",
    [
        {"tid": 1},
        {"bytes_req": 8999},
        {"gfp_flags": 1},
        {"kind": Kind.CACHE},
        {"jiffies": 4_294_900_002},
        {"time_ns": 1000 + MS + 1},
        {"call_site": 1},
        {"bytes_alloc": 32768},
    ],
    ids=lambda difference: next(iter(difference)),
)
def test_anything_else_at_an_outstanding_address_is_a_missed_free(difference):
    second = allocation(**{"call_site": 2, **LARGE, **difference})
    totals = played(allocation(call_site=1, **LARGE), second).totals()
    assert (totals.allocations, totals.implied_frees, totals.double_events) == (2, 1, 0)


def test_four_events_alike_are_two_allocations():
    events = [allocation(call_site=site, **LARGE) for site in (1, 2, 1, 2)]
    for parts in ([events], [events[:1], events[1:]], [[event] for event in events]):
        ledger = Ledger()
        for number, part in enumerate(parts):
            ledger.apply(batch(part, number * 10))
        totals = ledger.totals()
        assert (totals.allocations, totals.implied_frees, totals.double_events) == (2, 1, 2)


def test_addresses_whose_hashes_collide_within_a_batch_are_kept_apart():
    keys = unspread(np.array([(9 << 32) + n for n in range(3)], np.uint64)).tolist()
    events = [allocation(keys[n % 3], stack=n % 3) for n in range(6)] + [free(keys[0])]
    totals = played(*events).totals()
    assert (totals.implied_frees, totals.outstanding, totals.frees) == (3, 2, 1)


def test_history_forgets_the_oldest_and_says_since_when_it_is_complete():
    ledger = Ledger(history_capacity=4, history_min_lifetime_ns=0)
    for n in range(7):
        ledger.apply(batch([allocation(BASE + n, n * 10), free(BASE + n, n * 10 + 5)], n * 2))
    assert ledger.history([BASE + n for n in range(7)])["closed_ns"].tolist() == [35, 45, 55, 65]
    assert ledger.history_complete_since_ns == 25
    many = [event for n in range(6) for event in (allocation(BASE + n, 100 + n), free(BASE + n, 200 + n))]
    ledger.apply(batch(many, 100))
    assert ledger.history([BASE + n for n in range(7)])["closed_ns"].tolist() == [202, 203, 204, 205]
    assert ledger.history_complete_since_ns == 201


def test_history_keeps_only_what_lived_long_enough_to_be_a_suspect():
    lived = ending_memory.HISTORY_MIN_LIFETIME_NS
    ledger = played(allocation(BASE, 0), free(BASE, lived - 1), allocation(BASE + 64, 0), free(BASE + 64, lived))
    assert ledger.history([BASE, BASE + 64])["object"].tolist() == [BASE + 64]


def test_watched_address_remembers_its_first_free_even_of_something_unknown():
    ledger = Ledger()
    ledger.watch([BASE, BASE + 64])
    ledger.apply(batch([free(BASE, 5), free(BASE, 6), free(BASE + 128, 7)]))
    (seen,) = ledger.watched_frees()
    assert (seen["object"], seen["closed_ns"], seen["ending"]) == (BASE, 5, Ending.UNMATCHED)
    assert ledger.totals().unknown_frees == 3

    ledger.watch(BASE)
    ledger.apply(batch([allocation(BASE, 8), free(BASE, 9), allocation(BASE + 64, 10)], 10))
    assert ledger.watched_frees()["ending"].tolist() == [Ending.UNMATCHED, Ending.FREE]


def test_loss_is_never_dropped():
    ledger = Ledger()
    ledger.note_loss(LossWindow(100, 200, 5))
    ledger.note_loss(LossWindow(300, 400, 7))
    for n in range(5000):
        ledger.note_loss(LossWindow(1000 + n, 1000 + n, 1))
    assert len(ledger.losses) < 5000
    assert sum(window.events for window in ledger.losses) == 5012


def test_lifetime_quantiles_are_within_twelve_percent():
    lifetimes = np.random.default_rng(4).lognormal(12, 2, 5000).astype(np.int64).tolist()
    events = [e for n, t in enumerate(lifetimes) for e in (allocation(BASE + n, 10), free(BASE + n, 10 + t))]
    (statistics,) = played(*events).stack_statistics([0xABCDEF])
    for q in (0.1, 0.5, 0.9, 1.0):
        assert statistics.lifetime_quantile(q) == pytest.approx(
            np.quantile(lifetimes, q, method="inverted_cdf"), rel=0.12
        )
    assert statistics.lifetime_sum_ns == pytest.approx(np.sum(lifetimes))


def test_bins_hold_what_their_range_says():
    lifetimes = [1, 2, 3, 4, 5, 1000, 2**40 + 1, 2**63]
    for lifetime, number in zip(lifetimes, lifetime_bins(np.array(lifetimes, np.uint64)).tolist(), strict=True):
        low, high = bin_range(number)
        assert low <= lifetime < high


def test_of_a_stack_never_seen_everything_is_zero():
    (statistics,) = Ledger().stack_statistics([5])
    assert (statistics.stack, statistics.allocations, statistics.frees) == (5, 0, 0)
    assert statistics.lifetime_quantile(0.5) is None


def test_tasks_and_origins_that_have_gone_are_swept_out(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(outstanding_table, "_WORTH_SWEEPING", 10)
    ledger = Ledger()
    for n in range(200):
        ledger.apply(batch([allocation(BASE + n, tid=n, comm=b"task%d" % n, bytes_req=n)], n * 10))
        if n >= 3:
            ledger.apply(batch([free(BASE + n - 3)], n * 10 + 5))
    left = sorted(ledger.outstanding()[["tid", "comm", "bytes_req"]].tolist())
    assert left == [(197, b"task197", 197), (198, b"task198", 198), (199, b"task199", 199)]
    assert len(ledger._rows._tasks) <= 11
    assert len(ledger._rows._origins) <= 11


def test_memory_follows_what_is_outstanding_down_too():
    ledger = Ledger(history_capacity=0)
    ledger.apply(batch([allocation(BASE)]))
    few = ledger.nbytes
    rows = np.zeros(200_000, ALLOCATION)
    rows["sequence"] = rows["object"] = np.arange(rows.size, dtype=np.uint64) + np.uint64(BASE + 1)
    ledger.apply(Batch(rows, np.zeros(0, FREE)))
    assert ledger.nbytes > few + 200_000 * 40
    frees = np.zeros(rows.size - 1000, FREE)
    frees["sequence"], frees["object"] = rows["sequence"][1000:] + np.uint64(rows.size), rows["object"][1000:]
    ledger.apply(Batch(np.zeros(0, ALLOCATION), frees))
    assert ledger.totals().outstanding == 1001
    assert rows_of(ledger.outstanding()[["object"]]) == [(BASE + n,) for n in range(1001)]
    assert ledger.nbytes < few + 100_000


def test_an_outstanding_allocation_takes_at_most_64_bytes():
    ledger = Ledger()
    rows = np.zeros(20_000, ALLOCATION)
    for n in range(16):
        rows["sequence"] = rows["object"] = np.arange(rows.size, dtype=np.uint64) + np.uint64(BASE + n * rows.size)
        ledger.apply(Batch(rows, np.zeros(0, FREE)))
        if n > 2:
            assert ledger.nbytes / ledger.totals().outstanding < 64
