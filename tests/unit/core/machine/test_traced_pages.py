# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that are outstanding stand in the way of "clean", unless a verdict or a growing stack tells of them."""

from __future__ import annotations

import pytest
from builders import Scene, rows

from kleaktrace.core.events.records import Kind
from kleaktrace.core.ledger.outstanding_table import OUTSTANDING
from kleaktrace.core.ledger.tally import Tally, tally
from kleaktrace.core.machine.traced_pages import unjudged_pages
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained

MIB = 1 << 20
GONE = Unexplained(MissingMemory.TRACED_PAGES, 20 * MIB, "of traced pages are outstanding")
OTHER = Unexplained(MissingMemory.SLAB, 5 * MIB, "more in slab caches")


@pytest.fixture
def scene() -> Scene:
    return Scene()


def held(scene: Scene, **mib_by_stack: int) -> Tally:
    """So many MiB of pages outstanding by stack, s1, s2, …; and a vmalloc that is as large."""
    found = [
        {"kind": kind, "stack": int(name[1:]), "bytes_alloc": size * MIB, "object": 100 * kind + number}
        for number, (name, size) in enumerate(mib_by_stack.items())
        for kind in (Kind.PAGES, Kind.VMALLOC)
    ]
    return tally(rows(OUTSTANDING, *found))


def lines(scene: Scene, key: int) -> tuple[str, ...]:
    return tuple(scene.names.stacks.get(key).lines())


def test_who_asked_for_them_is_named_the_most_first(scene: Scene) -> None:
    other, found = unjudged_pages([GONE, OTHER], held(scene, s1=5, s2=15), scene.names.stacks, set())
    assert other is OTHER
    assert (found.bytes, [size for _, size in found.sites]) == (20 * MIB, [15 * MIB, 5 * MIB])
    frame = scene.names.stacks.get(2).requester
    assert frame is not None
    assert found.sites[0][0].startswith(str(frame.name))


def test_what_is_told_of_already_is_left_out(scene: Scene) -> None:
    judged = {lines(scene, 2)}
    (found,) = unjudged_pages([GONE], held(scene, s1=5, s2=15), scene.names.stacks, judged)
    assert found.bytes == 5 * MIB
    assert not unjudged_pages([GONE], held(scene, s2=20), scene.names.stacks, judged)
    assert not unjudged_pages([GONE], held(scene, s1=1, s2=19), scene.names.stacks, judged)


def test_who_took_little_is_not_named(scene: Scene) -> None:
    (found,) = unjudged_pages([GONE], held(scene, s1=1, s2=19), scene.names.stacks, set())
    assert len(found.sites) == 1


def test_no_more_is_told_of_than_is_gone(scene: Scene) -> None:
    (found,) = unjudged_pages([GONE], held(scene, s1=500), scene.names.stacks, set())
    assert found.bytes == 20 * MIB


def test_without_pages_all_stays_as_it_is(scene: Scene) -> None:
    assert unjudged_pages([OTHER], held(scene, s1=5), scene.names.stacks, set()) == [OTHER]
