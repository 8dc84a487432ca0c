# SPDX-License-Identifier: GPL-2.0-or-later
"""Heaps of leaked objects to find roots in, and the roots found the plain way."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby

import numpy as np
from builders import rows

from kleaktrace.core.events.records import Kind, hide
from kleaktrace.core.leaked_objects.pointer_graph import ObjectGraph, object_graph
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING

HEAP = 0xFF11000100000000
SLOT = 4096
NOTHING = hide(0)


@dataclass
class Heap:
    """Objects in slots of 4 KiB; `point` writes a pointer into one."""

    events: list[dict[str, object]] = field(default_factory=list)
    words: list[np.ndarray] = field(default_factory=list)

    def add(self, stack: int = 1, size: int = 128, **fields: object) -> int:
        number = len(self.events)
        row = {"object": hide(HEAP + number * SLOT), "time_ns": 1000 + number, "kind": Kind.KMALLOC, "stack": stack}
        self.events.append({**row, "bytes_req": size, "bytes_alloc": -(-size // 64) * 64, **fields})
        self.words.append(np.full(min(SLOT, int(self.events[-1]["bytes_alloc"])) // 8, NOTHING, np.uint64))
        return number

    def address(self, number: int) -> int:
        return hide(int(self.events[number]["object"]))

    def point(self, holder: int, held: int, at: int = 8, inside: int = 0) -> None:
        """Have the word at byte `at` of one point to byte `inside` of the other."""
        self.words[holder][at // 8] = hide(self.address(held) + inside)

    @property
    def rows(self) -> np.ndarray:
        return rows(OUTSTANDING, *self.events)

    def graph(self) -> ObjectGraph:
        return object_graph(self.rows, self.words)

    def roots(self) -> list[int]:
        return self.graph().roots.tolist()


def plain_edges(heap: Heap) -> set[tuple[int, int]]:
    """Who points into whom, word by word; without the links of free objects and per-CPU memory."""
    edges = set()
    for holder, event in enumerate(heap.events):
        for word in heap.words[holder][: int(event["bytes_req"]) // 8].tolist():
            for held, other in enumerate(heap.events):
                start = heap.address(held)
                if held != holder and start <= hide(word) < start + int(other["bytes_req"]):
                    edges.add((holder, held))
    return edges


def plain_owners(heap: Heap, edges: set[tuple[int, int]]) -> list[int]:
    """The root of each object, as `object_graph` documents it."""
    events, everyone = heap.events, range(len(heap.events))
    fellow = {(a, b) for a, b in edges if events[a]["stack"] == events[b]["stack"]}
    fellow |= {(b, a) for a, b in fellow}
    together = _closure(len(events), fellow)
    edges = edges - _strays(heap, edges - fellow, together)
    reach = _closure(len(events), edges | fellow)
    rank = {n: (-int(events[n]["bytes_alloc"]), events[n]["time_ns"], heap.address(n)) for n in everyone}
    neighbours = {n: {a + b - n for a, b in edges - fellow if n in (a, b)} for n in everyone}

    def chosen(circle: list[int]) -> list[int]:
        parties = {tuple(n for n in circle if events[n]["stack"] == events[m]["stack"]) for m in circle}
        mean = {party: Fraction(sum(len(neighbours[n]) for n in party), len(party)) for party in parties}
        return list(min(parties, key=lambda party: (-mean[party], min(rank[n] for n in party))))

    circles = {tuple(m for m in everyone if reach[n][m] and reach[m][n]) for n in everyone}
    sources = [list(c) for c in circles if not any(reach[n][c[0]] for n in everyone if n not in c)]
    distance = {root: _distances(root, edges | fellow) for circle in sources for root in chosen(circle)}
    return [
        min((away[n], rank[root], root) for root, away in distance.items() if n in away)[2] if n not in distance else n
        for n in everyone
    ]


def _strays(heap: Heap, edges: set[tuple[int, int]], together: list[list[bool]]) -> set[tuple[int, int]]:
    """Pointers from outside to a stack of which few are held from there."""
    reach = _closure(len(heap.events), edges)
    outside = {(a, b) for a, b in edges if not reach[b][a]}
    stacks = [event["stack"] for event in heap.events]
    held = [any(together[n][b] for _, b in outside) for n in range(len(stacks))]
    share = {
        of: Fraction(sum(h for h, s in zip(held, stacks, strict=True) if s == of), stacks.count(of)) for of in stacks
    }
    return {(a, b) for a, b in outside if share[stacks[b]] <= Fraction(1, 4)}


def _closure(count: int, edges: set[tuple[int, int]]) -> list[list[bool]]:
    reach = [[a == b or (a, b) in edges for b in range(count)] for a in range(count)]
    for via in range(count):
        for a in range(count):
            if reach[a][via]:
                reach[a] = [one or other for one, other in zip(reach[a], reach[via], strict=True)]
    return reach


def _distances(start: int, edges: set[tuple[int, int]]) -> dict[int, int]:
    after = {holder: [b for _, b in group] for holder, group in groupby(sorted(edges), key=lambda edge: edge[0])}
    distances, level = {start: 0}, {start}
    for away in range(1, len(edges) + 1):
        level = {held for holder in level for held in after.get(holder, [])} - set(distances)
        distances |= dict.fromkeys(level, away)
    return distances
