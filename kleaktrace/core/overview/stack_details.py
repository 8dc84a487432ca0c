# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to show of a single call stack: survival curve, places that free its siblings, level over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kleaktrace.core.arrays.types import F64, U64, Index
from kleaktrace.core.growth.survival import BIN_ENDS_NS, survival_curves
from kleaktrace.core.ledger.stack_counters import LIFETIME_BINS, lifetime_bins
from kleaktrace.core.recording import Recording

_AT_ONCE = 2048
"""Curves take 2 KiB a stack, several times over."""


@dataclass(frozen=True, slots=True)
class SurvivalCurve:
    """The share of allocations that outlives an age, as steps: at `ages_s[i]` it falls to `shares[i]`.

    Ages beyond `followed_s` nobody has reached yet.
    """

    ages_s: F64
    shares: F64
    followed_s: float


@dataclass(frozen=True, slots=True)
class StackDetails:
    """Of some stacks, in parallel.

    free_sites: where allocations were freed, with how many, most first. levels: (stacks, samples) outstanding bytes
    at `times_s` from the start; all_levels: of all stacks together.
    """

    curves: Sequence[SurvivalCurve]
    free_sites: Sequence[Sequence[tuple[str, int]]]
    times_s: F64
    levels: F64
    all_levels: F64


def stack_details(recording: Recording, stacks: Sequence[tuple[int, ...]]) -> StackDetails:
    """Of each stack, given by all of its keys in the ledger; no key belongs to two."""
    curves: list[SurvivalCurve] = []
    for first in range(0, len(stacks), _AT_ONCE):
        curves += _curves(recording, stacks[first : first + _AT_ONCE])
    keys, owners = _flat(stacks)
    times_ns = np.array(recording.history.times_ns, np.float64)
    by_key = recording.history.levels(keys)
    levels = np.zeros((len(stacks), times_ns.size))
    np.add.at(levels, owners, by_key.T)
    return StackDetails(
        curves=curves,
        free_sites=_free_sites(recording, keys, owners, len(stacks)),
        times_s=(times_ns - recording.clock.start.time_ns) / 1e9,
        levels=levels,
        all_levels=recording.history.all_levels(),
    )


def _flat(stacks: Sequence[tuple[int, ...]]) -> tuple[U64, Index]:
    """All keys, and the place of the stack that each belongs to."""
    keys = np.array([key for of_stack in stacks for key in of_stack], np.uint64)
    owners = np.repeat(np.arange(len(stacks)), [len(of_stack) for of_stack in stacks])
    return keys, owners


def _curves(recording: Recording, stacks: Sequence[tuple[int, ...]]) -> list[SurvivalCurve]:
    keys, owners = _flat(stacks)
    ended, running = np.zeros((2, len(stacks), LIFETIME_BINS))
    np.add.at(ended, owners, recording.ledger.lifetime_counts(keys).astype(np.float64))
    living = recording.ledger.survivors(keys)
    now_ns = np.uint64(recording.clock.end.time_ns)
    ages = np.maximum(living.time_ns, now_ns) - np.minimum(living.time_ns, now_ns)
    np.add.at(running, (owners[living.stack_index], lifetime_bins(ages).astype(np.intp)), 1)
    survival = survival_curves(ended, running).survival
    return [_curve(*columns) for columns in zip(ended, running, survival, strict=True)]


def _curve(ended: F64, running: F64, survival: F64) -> SurvivalCurve:
    steps = np.flatnonzero(ended)
    last = int(np.flatnonzero(ended + running).max(initial=0))
    return SurvivalCurve(BIN_ENDS_NS[steps] / 1e9, survival[steps], float(BIN_ENDS_NS[last]) / 1e9)


def _free_sites(recording: Recording, keys: U64, owners: Index, count: int) -> list[list[tuple[str, int]]]:
    found: list[dict[int, int]] = [{} for _ in range(count)]
    for one, owner in zip(recording.ledger.stack_statistics(keys.tolist()), owners.tolist(), strict=True):
        for site, frees in one.free_sites:
            found[owner][site] = found[owner].get(site, 0) + frees
    words = {site: _words(recording, site) for sites in found for site in sites}
    return [
        [(words[site], frees) for site, frees in sorted(sites.items(), key=lambda each: (-each[1], each[0]))]
        for sites in found
    ]


def _words(recording: Recording, site: int) -> str:
    return str(recording.names.sites.frame(site)) if site else "an unknown caller"
