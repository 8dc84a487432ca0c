# SPDX-License-Identifier: GPL-2.0-or-later
"""What keeps memory from round to round, simulated: each gives what is left of every round after the last one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Random = np.random.Generator
Counts = np.ndarray
Keeper = Callable[[Random, int], Counts]


def _log_uniform(random: Random, most: int) -> int:
    return int(np.exp(random.uniform(0, np.log(most))))


def cache_of_identities(random: Random, rounds: int, capacity: int) -> Counts:
    """Keeps an entry for each name that was ever asked for; names come again."""
    asked = _log_uniform(random, 20)
    known: set[int] = set()
    left = np.zeros(rounds, np.int64)
    for number in range(rounds):
        for name in random.integers(0, capacity, asked).tolist():
            left[number] += name not in known
            known.add(name)
    return left


def pool_that_fills(random: Random, rounds: int, capacity: int) -> Counts:
    """Keeps what it is given until it is full."""
    each = _log_uniform(random, 20)
    filled = np.minimum(np.arange(1, rounds + 1) * each, capacity)
    return np.diff(filled, prepend=0).astype(np.int64)


def replaces_the_oldest(random: Random, rounds: int, capacity: int) -> Counts:
    """Keeps the newest."""
    return pool_that_fills(random, rounds, capacity)[::-1]


def replaces_any(random: Random, rounds: int, capacity: int) -> Counts:
    """Keeps so many, and replaces one by chance."""
    pool: list[int] = []
    for number in range(rounds):
        for _ in range(_log_uniform(random, 20)):
            if len(pool) < capacity:
                pool.append(number)
            else:
                pool[int(random.integers(0, capacity))] = number
    return np.bincount(pool, minlength=rounds).astype(np.int64)


def pool_that_doubles(random: Random, rounds: int) -> Counts:
    """Allocates anew whenever what it has is full, twice as much."""
    each, size = int(random.integers(1, 5)), 1
    left = np.zeros(rounds, np.int64)
    for number in range(rounds):
        while (number + 1) * each > size:
            size, left[number] = size * 2, left[number] + 1
    return left


def per_cpu_lists(random: Random, rounds: int) -> Counts:
    """Two lists that are filled and emptied by batches; what is allocated on one is freed on the other."""
    lists: list[list[int]] = [[], []]
    for number in range(rounds):
        live = []
        for _ in range(int(random.integers(1, 30))):
            own = lists[int(random.integers(0, 2))]
            if not own:
                own += [number] * 16
            live.append(own.pop())
        for born in live:
            own = lists[int(random.integers(0, 2))]
            own.append(born)
            if len(own) > 32:
                del own[:16]
    return np.bincount(lists[0] + lists[1], minlength=rounds).astype(np.int64)


def freed_later(random: Random, rounds: int) -> Counts:
    """By RCU, a work queue, or the next rounds: only the last ones' are still there."""
    left = np.zeros(rounds, np.int64)
    left[-int(random.integers(1, 4)) :] = int(random.integers(1, 9))
    return left


def now_and_then(random: Random, rounds: int) -> Counts:
    """Others' doings, that have nothing to do with the rounds."""
    return random.poisson(np.exp(random.uniform(-4, -1)), rounds).astype(np.int64)


def steady_leak(random: Random, rounds: int) -> Counts:
    return np.full(rounds, int(random.integers(1, 9)), np.int64)


def varying_leak(random: Random, rounds: int) -> Counts:
    return 1 + random.poisson(3, rounds).astype(np.int64)


def leak_beside_a_cache(random: Random, rounds: int) -> Counts:
    return steady_leak(random, rounds) + pool_that_fills(random, rounds, _log_uniform(random, 100))


def leak_whose_last_are_pending(random: Random, rounds: int) -> Counts:
    return steady_leak(random, rounds) + freed_later(random, rounds)
