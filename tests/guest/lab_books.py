# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the lab's own account of what it did, and kmemleak's list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Case:
    """A row of the lab's table."""

    truth: str
    function: str
    size: int
    count: int
    context: str
    holds_for: int
    caller: str

    @classmethod
    def read(cls, path: Path) -> dict[str, Case]:
        """Read the table, by name."""
        rows = [line.split("\t") for line in path.read_text().splitlines()]
        return {
            name: cls(truth, function, int(size), int(count), context, int(holds_for), caller)
            for name, truth, function, size, count, context, holds_for, caller in rows
        }


@dataclass(frozen=True)
class Object:
    """What the lab says about one object."""

    case: str
    truth: str
    function: str
    address: int
    size: int
    freed: bool
    context: str
    comm: str
    kind: str
    allocated_ns: int
    freed_ns: int

    @classmethod
    def read(cls, path: Path) -> list[Object]:
        """Read the lab's books."""
        return [cls.parse(line) for line in path.read_text().splitlines()]

    @classmethod
    def parse(cls, line: str) -> Object:
        """Read a line of the books."""
        case, truth, function, address, size, state, context, _pid, comm, kind, allocated, freed = line.split("\t")
        is_freed = {"freed": True, "alive": False}[state]
        return cls(
            *(case, truth, function, int(address, 16), int(size), is_freed, context, comm, kind),
            *(int(allocated), int(freed) if is_freed else 0),
        )


def listed(report: Path) -> dict[int, list[str]]:
    """Return what kmemleak lists: address, and frames that it could name; `(percpu)` before 0x… from 6.15 on.

    No frames: it could not name them all, since their module is gone.
    """
    found: dict[int, list[str]] = {}
    nameless: set[int] = set()
    address = 0
    for line in report.read_text(errors="replace").splitlines():
        if line.startswith("unreferenced object"):
            address = int(next(word for word in line.split() if word.startswith("0x")), 16)
            found[address] = []
        elif line.startswith("    ") and "+0x" in line:
            # `[<…>] ` in front of it up to 6.12
            found[address].append(line.strip().rpartition(">] ")[2])
        elif line.startswith("    0x"):
            nameless.add(address)
    return {address: [] if address in nameless else frames for address, frames in found.items()}


def last_owners(objects: Iterable[Object]) -> dict[str, set[int]]:
    """Give the addresses of each case that no later object has had."""
    owners = {row.address: row.case for row in sorted(objects, key=lambda row: row.allocated_ns)}
    addresses = defaultdict(set)
    for address, case in owners.items():
        addresses[case].add(address)
    return addresses
