# SPDX-License-Identifier: GPL-2.0-or-later
"""The ledger as one would write it first: a dict, one event at a time. The model the real one is held to."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from kleaktrace.core.events.records import Kind
from kleaktrace.core.ledger.free_history import Ending

Event = dict  # the fields of an ALLOCATION or FREE, and "free": bool


@dataclass
class NaiveStack:
    allocations: int = 0
    bytes_allocated: int = 0
    implied_frees: int = 0
    bytes_closed: int = 0
    lifetimes: list[int] = field(default_factory=list)
    free_sites: Counter = field(default_factory=Counter)
    contexts: Counter = field(default_factory=Counter)


class NaiveLedger:
    def __init__(self, history_min_lifetime_ns: int) -> None:
        self.min_lifetime = history_min_lifetime_ns
        self.table: dict[tuple[bool, int], Event] = {}
        self.stacks: dict[int, NaiveStack] = defaultdict(NaiveStack)
        self.unknown_frees = 0
        self.double_events = 0
        self.implied_by_cache: Counter = Counter()
        self.endings: list[tuple] = []
        self.watched: set[tuple[bool, int]] = set()
        self.watched_endings: list[tuple] = []

    def apply(self, events: list[Event]) -> None:
        for event in events:
            key = (event["kind"] == Kind.PERCPU, event["object"])
            if event["free"]:
                self.free(key, event)
            else:
                self.allocate(key, event)

    def allocate(self, key, new) -> None:
        new = dict(new, second=False)
        old = self.table.get(key)
        if old and not old["second"] and self.is_double(old, new):
            new["second"] = True
            self.double_events += 1
            self.stacks[old["stack"]].allocations -= 1
            self.stacks[old["stack"]].bytes_allocated -= old["bytes_alloc"]
            self.stacks[old["stack"]].contexts[old["context"]] -= 1
        elif old:
            self.stacks[old["stack"]].implied_frees += 1
            self.stacks[old["stack"]].bytes_closed += old["bytes_alloc"]
            self.implied_by_cache[old["cache"]] += 1
            self.end(key, old, new, Ending.IMPLIED)
        self.table[key] = new
        stack = self.stacks[new["stack"]]
        stack.allocations += 1
        stack.bytes_allocated += new["bytes_alloc"]
        stack.contexts[new["context"]] += 1

    def free(self, key, event) -> None:
        old = self.table.pop(key, None)
        if old is None:
            self.unknown_frees += 1
            self.see(key, (key[1], 0, event["time_ns"], 0, event["call_site"], 0, Ending.UNMATCHED))
            return
        stack = self.stacks[old["stack"]]
        stack.lifetimes.append(max(0, event["time_ns"] - old["time_ns"]))
        stack.free_sites[event["call_site"]] += 1
        stack.bytes_closed += old["bytes_alloc"]
        self.end(key, old, event, Ending.FREE)

    def end(self, key, old, by, ending) -> None:
        site = by["call_site"] if ending is Ending.FREE else 0
        record = (key[1], old["time_ns"], by["time_ns"], old["stack"], site, old["jiffies"], ending)
        if by["time_ns"] - old["time_ns"] >= self.min_lifetime or self.min_lifetime == 0:
            self.endings.append((key[0], *record))
        self.see(key, record)

    def see(self, key, record) -> None:
        if key in self.watched:
            self.watched.remove(key)
            self.watched_endings.append(record)

    @staticmethod
    def is_double(old, new) -> bool:
        return (
            old["kind"] == new["kind"] == Kind.KMALLOC
            and all(old[name] == new[name] for name in ("tid", "bytes_req", "bytes_alloc", "gfp_flags"))
            and old["call_site"] != new["call_site"]
            and old["bytes_alloc"] >= 4096
            and (new["jiffies"] - old["jiffies"]) % 2**32 in (0, 1, 2**32 - 1)
            and abs(new["time_ns"] - old["time_ns"]) <= 1_000_000
        )
