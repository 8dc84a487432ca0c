# SPDX-License-Identifier: GPL-2.0-or-later
"""Blocks of pages, split and freed in any way, against a model that knows nothing but single pages."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from builders import rows
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import ALLOCATION, FREE, Batch, Kind, address_of, hide
from kleaktrace.core.ledger.ledger import Ledger
from kleaktrace.core.ledger.page_blocks import block_orders, blocks_around, blocks_inside, pieces

DESCRIPTORS = 0xFFFFEA0004000000
PAGES = 32
MOST = 5
STACKS = (11, 12, 13)


def name(page: int, order: int) -> int:
    return hide(DESCRIPTORS + 64 * page | order)


def block_of(named: int) -> range:
    address = hide(named)
    first, order = (address - DESCRIPTORS) // 64, address & 15
    return range(first, first + (1 << order))


class Event(NamedTuple):
    is_free: bool
    page: int
    order: int
    stack: int = 0

    @property
    def pages(self) -> range:
        return range(self.page, self.page + (1 << self.order))


class Model:
    """Which allocation each page is of: (number of the event, stack)."""

    def __init__(self) -> None:
        self.pages: dict[int, tuple[int, int]] = {}

    def possible(self, event: Event) -> bool:
        held = [page in self.pages for page in event.pages]
        return all(held) or not any(held) if event.is_free else not any(held)

    def take(self, number: int, event: Event) -> None:
        for page in event.pages:
            if event.is_free:
                self.pages.pop(page, None)
            else:
                self.pages[page] = number, event.stack


@st.composite
def events(draw: st.DrawFn) -> list[Event]:
    model, made = Model(), []
    for number in range(draw(st.integers(1, 40))):
        order = draw(st.integers(0, MOST))
        page = draw(st.integers(0, (PAGES >> order) - 1)) << order
        event = Event(draw(st.booleans()), page, order, draw(st.sampled_from(STACKS)))
        if model.possible(event):
            model.take(number, event)
            made.append(event)
    return made


def batch(first: int, some: list[Event]) -> Batch:
    allocations, frees = [], []
    for number, event in enumerate(some, start=first):
        row = {"sequence": number, "object": name(event.page, event.order), "time_ns": 1000 + number}
        row |= {"kind": Kind.PAGES}
        if event.is_free:
            frees.append(row)
        else:
            size = 4096 << event.order
            own = {"stack": event.stack, "bytes_req": size, "bytes_alloc": size, "cache": event.order}
            allocations.append({**row, **own})
        # Something else at the same time, which is no concern of pages.
        if number % 3 == 0:
            other = {
                "sequence": number + 500,
                "object": hide(0xFFFF888000000000 + 64 * number),
                "time_ns": 1000 + number,
            }
            allocations.append({**other, "kind": Kind.KMALLOC, "stack": 99, "bytes_req": 64, "bytes_alloc": 64})
    allocations.sort(key=lambda row: row["sequence"])
    return Batch(rows(ALLOCATION, *allocations), rows(FREE, *frees))


@given(events(), st.data())
@pytest.mark.thorough
def test_however_blocks_are_split_and_freed_the_pages_are_those_of_the_model(made: list[Event], data) -> None:
    model, ledger, at = Model(), Ledger(), 0
    while at < len(made):
        count = data.draw(st.integers(1, len(made) - at))
        some = made[at : at + count]
        ledger.apply(batch(1000 * at, some))
        for number, event in enumerate(some, start=1000 * at):
            model.take(number, event)
        at += count
        check(ledger, model)


def check(ledger: Ledger, model: Model) -> None:
    outstanding = ledger.outstanding(STACKS)
    found: dict[int, tuple[int, int]] = {}
    for row in outstanding:
        own = block_of(int(row["object"]))
        assert row["bytes_alloc"] == row["bytes_req"] == 4096 * len(own)
        assert not found.keys() & set(own)
        found |= dict.fromkeys(own, (int(row["time_ns"]) - 1000, int(row["stack"])))
    assert found == model.pages
    books = {one.stack: one for one in ledger.stack_statistics(STACKS)}
    for stack in STACKS:
        of_stack = outstanding[outstanding["stack"] == stack]
        assert books[stack].outstanding == of_stack.size
        assert books[stack].outstanding_bytes == 4096 * sum(s == stack for _, s in model.pages.values())
        assert books[stack].implied_frees == 0
    totals = ledger.totals()
    assert totals.allocations == totals.frees + totals.implied_frees + totals.outstanding


def test_a_block_that_is_freed_as_it_was_allocated_is_one_allocation() -> None:
    ledger = Ledger()
    ledger.apply(batch(0, [Event(False, 8, 3, 11), Event(True, 8, 3)]))
    (books,) = ledger.stack_statistics([11])
    assert (books.allocations, books.frees, books.outstanding) == (1, 1, 0)


def test_a_block_of_which_a_page_is_freed_is_as_many_allocations_as_it_has_pages() -> None:
    ledger = Ledger()
    ledger.apply(batch(0, [Event(False, 8, 3, 11), Event(True, 9, 0)]))
    (books,) = ledger.stack_statistics([11])
    assert (books.allocations, books.frees, books.outstanding_bytes) == (8, 1, 7 * 4096)
    assert {int(row["cache"]) for row in ledger.outstanding([11])} == {3}  # it was asked for as one


@pytest.mark.thorough
def test_many_splits_in_one_batch() -> None:
    made = []
    for page in range(0, 4096, 4):
        made.append(Event(False, page, 2, 11))
        made += [Event(True, page + number, 0) for number in range(3)]
    ledger = Ledger()
    ledger.apply(batch(0, made))
    assert ledger.totals().outstanding - ledger.outstanding([99]).size == 1024


def test_names_of_blocks_around_and_inside() -> None:
    around = blocks_around(np.array([name(13, 0), name(12, 2)], np.uint64))
    assert {hide(one) for one in around[0].tolist() if one} >= {hide(name(12, 1)), hide(name(12, 2)), hide(name(8, 3))}
    assert not around[1][:2].any()
    assert hide(int(around[1][2])) == hide(name(8, 3))
    assert pieces(name(8, 3), 2).tolist() == [name(8, 2), name(12, 2)]
    assert sorted(blocks_inside(name(4, 1)).tolist()) == sorted([name(4, 0), name(5, 0)])
    assert block_orders(np.array([name(8, 3)], np.uint64)).tolist() == [3]
    assert address_of(Kind.PAGES, name(8, 3)) == DESCRIPTORS + 512
