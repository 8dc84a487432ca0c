# SPDX-License-Identifier: GPL-2.0-or-later
"""Simulated call stacks: when each allocation is made and freed, of leaks and of what only looks like one.

A process is (births, deaths) in seconds, deaths infinite where nothing is ever freed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from kleaktrace.core.events.records import ALLOCATION, FREE, Batch
from kleaktrace.core.ledger.ledger import Ledger

SECOND = 1_000_000_000
START_NS = 5_000 * SECOND
BYTES = 128

Process = tuple[np.ndarray, np.ndarray]
Random = np.random.Generator


def poisson(random: Random, rate: float, start: float, end: float) -> np.ndarray:
    return np.sort(random.uniform(start, end, random.poisson(rate * max(end - start, 0.0))))


def both(*processes: Process) -> Process:
    return np.concatenate([p[0] for p in processes]), np.concatenate([p[1] for p in processes])


def never_freed(births: np.ndarray) -> Process:
    return births, np.full(births.size, np.inf)


# Leaks


def leak(random: Random, seconds: float, rate: float = 1.0, start: float = 0.0) -> Process:
    return never_freed(poisson(random, rate, start, seconds))


def clockwork_leak(random: Random, seconds: float, rate: float = 1.0) -> Process:
    return never_freed(np.arange(random.uniform(0, 1 / rate), seconds, 1 / rate))


def bursty_leak(random: Random, seconds: float, rate: float = 1.0, mean_burst: float = 5.0) -> Process:
    """Bursts of geometric size, at random."""
    at = poisson(random, rate / mean_burst, 0, seconds)
    return never_freed(np.repeat(at, random.geometric(1 / mean_burst, at.size)))


def leaking_error_path(random: Random, seconds: float, rate: float = 1.0, one_in: int = 10) -> Process:
    """One in so many allocations is never freed, the others after milliseconds."""
    return both(leak(random, seconds, rate), short_lived(random, seconds, rate * (one_in - 1), 0.003))


def leak_among_slow_frees(random: Random, seconds: float, rate: float = 1.0, mean: float = 2.0) -> Process:
    """Half leaks, half lives for seconds."""
    return both(leak(random, seconds, rate), short_lived(random, seconds, rate, mean))


def leak_after_a_burst(random: Random, seconds: float, rate: float = 1.0) -> Process:
    """What stays of the start, and then a leak."""
    return both(never_freed(np.sort(random.uniform(0, 1, 200))), leak(random, seconds, rate))


# Work


def short_lived(random: Random, seconds: float, rate: float, mean: float) -> Process:
    births = poisson(random, rate, 0, seconds)
    return births, births + random.exponential(mean, births.size)


def log_normal_lives(random: Random, seconds: float, rate: float, median: float) -> Process:
    births = poisson(random, rate, 0, seconds)
    return births, births + median * np.exp(random.normal(0, 1, births.size))


def fixed_lives(random: Random, seconds: float, rate: float, life: float) -> Process:
    """A timeout frees: TIME_WAIT sockets, RCU grace periods."""
    births = poisson(random, rate, 0, seconds)
    return births, births + life


def heavy_tailed_lives(random: Random, seconds: float, rate: float, index: float = 1.0) -> Process:
    """Pareto from 10 ms on: in each doubling of age, the same share dies."""
    births = poisson(random, rate, 0, seconds)
    return births, births + 0.01 * (1 + random.pareto(index, births.size))


def warm_up(random: Random, seconds: float, objects: int, time_constant: float) -> Process:
    """A cache that fills: fast at first, then flattening."""
    births = np.sort(random.exponential(time_constant, objects))
    return never_freed(births[births < seconds])


def warm_up_as_the_root(random: Random, seconds: float, objects: int) -> Process:
    """A cache whose misses become rarer as 1/√t."""
    return never_freed(np.sort(seconds * random.uniform(0, 1, objects) ** 2))


def saw_tooth(random: Random, seconds: float, rate: float, period: float, reclaimed: float = 1.0) -> Process:
    """Grows until reclaim frees this share of it, at random, once every period."""
    births = poisson(random, rate, 0, seconds)
    first = (np.floor(births / period + random.uniform()) + 1) * period
    phase = first - births
    tries = random.geometric(reclaimed, births.size) - 1
    return births, births + (phase % period) + tries * period


def oldest_first(random: Random, seconds: float, rate: float, capacity: int) -> Process:
    """A least-recently-used cache of fixed capacity."""
    births = poisson(random, rate, 0, seconds)
    deaths = np.full(births.size, np.inf)
    deaths[: max(births.size - capacity, 0)] = births[capacity:]
    return births, deaths


def burst(random: Random, seconds: float, objects: int, duration: float) -> Process:
    start = random.uniform(0, seconds - duration)
    return never_freed(np.sort(random.uniform(start, start + duration, objects)))


def process_storm(random: Random, seconds: float, rate: float, mean_life: float, objects: int) -> Process:
    """Processes that allocate all through their lives, and free everything at exit."""
    starts = poisson(random, rate, 0, seconds)
    exits = starts + random.exponential(mean_life, starts.size)
    made = [
        (births, np.full(births.size, end))
        for start, end in zip(starts, exits, strict=True)
        for births in [np.sort(random.uniform(start, end, random.poisson(objects)))]
    ]
    births, deaths = both(*made) if made else (np.zeros(0), np.zeros(0))
    seen = births < seconds
    return births[seen], deaths[seen]


def compile_job(random: Random, seconds: float) -> Process:
    """Two at a time, each a second or so, each with a working set."""
    starts = np.concatenate([np.cumsum(random.gamma(4, 0.3, int(seconds * 2))) for _ in range(2)])
    lives = random.gamma(4, 0.3, starts.size)
    births = np.repeat(starts, 50) + np.repeat(lives, 50) * random.uniform(0, 1, 50 * starts.size)
    deaths = np.repeat(starts + lives, 50)
    seen = births < seconds
    return births[seen], deaths[seen]


def daemon(random: Random, seconds: float) -> Process:
    """Start-up, and then a few long-lived objects now and then."""
    return both(never_freed(np.sort(random.exponential(1.0, 100))), never_freed(poisson(random, 0.03, 0, seconds)))


def replicas(make: Callable[[Random], Process], count: int, seed: int) -> list[Process]:
    return [make(np.random.default_rng([seed, number])) for number in range(count)]


def played(processes: Sequence[Process], seconds: float, sizes: Callable[[int], np.ndarray] | None = None) -> Ledger:
    """The ledger after so many seconds; each process is a stack, keyed 1, 2, 3, …"""
    births = np.concatenate([p[0] for p in processes])
    deaths = np.concatenate([p[1] for p in processes])
    stacks = np.repeat(np.arange(1, len(processes) + 1), [p[0].size for p in processes])
    seen = births <= seconds
    births, deaths, stacks = births[seen], deaths[seen], stacks[seen]
    allocations = np.zeros(births.size, ALLOCATION)
    allocations["object"] = np.uint64(0xFFFF888000000000) + np.uint64(64) * np.arange(births.size, dtype=np.uint64)
    allocations["time_ns"] = START_NS + (births * SECOND).astype(np.uint64)
    allocations["stack"] = stacks
    allocations["bytes_alloc"] = allocations["bytes_req"] = BYTES if sizes is None else sizes(births.size)
    ended = deaths <= seconds
    frees = np.zeros(np.count_nonzero(ended), FREE)
    frees["object"] = allocations["object"][ended]
    frees["time_ns"] = START_NS + (deaths[ended] * SECOND).astype(np.uint64)
    order = np.argsort(np.concatenate([allocations["time_ns"], frees["time_ns"]]), kind="stable")
    sequence = np.empty(order.size, np.uint64)
    sequence[order] = np.arange(order.size)
    allocations["sequence"], frees["sequence"] = sequence[: births.size], sequence[births.size :]
    ledger = Ledger()
    ledger.apply(Batch(np.sort(allocations, order="sequence"), np.sort(frees, order="sequence")))
    return ledger
