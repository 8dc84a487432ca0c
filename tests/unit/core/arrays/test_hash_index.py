# SPDX-License-Identifier: GPL-2.0-or-later
"""The hash tables against dict, with keys made to collide and crowd."""

from __future__ import annotations

import numpy as np
import pytest
from colliding_keys import unspread
from hypothesis import given, settings
from hypothesis import strategies as st

from kleaktrace.core.arrays.hash_index import AddressIndex, Interner, number_pairs, spread


def u64(values) -> np.ndarray:
    return np.array(list(values), dtype=np.uint64)


def test_spread_is_invertible():
    hashes = np.random.default_rng(1).integers(0, 2**64, 1000, dtype=np.uint64)
    assert np.array_equal(spread(unspread(hashes)), hashes)


# Few distinct high bits: many keys share a home slot, at the end of the table too (probing wraps round).
crowded = st.builds(
    lambda high, low: int(unspread(u64([(high << 32) + low]))[0]),
    st.sampled_from([0, 1, 0x80000000, 0xF4000000, 0xFFFFFFFF]),
    st.integers(0, 40),
)
slab = st.integers(0, 50).map(lambda n: 0xFF11000000000000 + n * 64)
keys = st.one_of(st.integers(0, 2**64 - 1), crowded, slab)
steps = st.lists(st.tuples(st.sets(keys, max_size=60), st.sets(keys, max_size=60), st.booleans()), max_size=12)


@given(steps)
@settings(max_examples=200, deadline=None)
@pytest.mark.thorough
def test_address_index_is_a_dict(steps):
    index, model = AddressIndex(), {}
    for inserted, removed, compacted in steps:
        new = [key for key in inserted if key not in model]
        rows = index.insert(u64(new))
        model.update(zip(new, rows.tolist(), strict=True))
        gone = [key for key in removed if key in model]
        index.remove(*index.find(u64(gone)))
        for key in gone:
            del model[key]
        if compacted:
            of_row = {row: key for key, row in model.items()}
            model = {of_row[old]: row for row, old in enumerate(index.compact().tolist())}

        asked = list(inserted | removed | model.keys())
        assert index.lookup(u64(asked)).tolist() == [model.get(key, -1) for key in asked]
        assert len(index) == len(model) == len(set(model.values()))
        assert sorted(model.values()) == index.rows.tolist()
        assert set(index.keys(index.rows).tolist()) == model.keys()
        assert all(row < index.capacity for row in model.values())


@pytest.mark.thorough
def test_rows_are_reused_and_tombstones_do_not_pile_up():
    index = AddressIndex()
    rng = np.random.default_rng(2)
    live = np.unique(rng.integers(0, 2**64, 5000, dtype=np.uint64))
    index.insert(live)
    held = index.nbytes
    for _ in range(200):
        fresh = np.setdiff1d(rng.integers(0, 2**64, 500, dtype=np.uint64), live)
        gone = rng.choice(live, fresh.size, replace=False)
        index.remove(*index.find(gone))
        index.insert(fresh)
        live = np.union1d(np.setdiff1d(live, gone), fresh)
    assert len(index) == live.size
    assert (index.lookup(live) >= 0).all()
    assert index.capacity < 1.2 * 5000
    assert index.nbytes < 1.6 * held


def test_compacting_gives_back_what_many_keys_took():
    index = AddressIndex()
    few = index.nbytes
    many = np.unique(np.random.default_rng(4).integers(0, 2**64, 50_000, dtype=np.uint64))
    index.insert(many)
    index.remove(*index.find(many[100:]))
    assert index.nbytes > 900_000
    index.compact()
    assert index.nbytes < few + 100 * 22
    assert sorted(index.lookup(many[:100]).tolist()) == index.rows.tolist() == list(range(100))


def test_memory_per_key_stays_small_while_growing():
    index = AddressIndex()
    rng = np.random.default_rng(3)
    for _ in range(60):
        index.insert(rng.integers(0, 2**64, 5000, dtype=np.uint64))
        if len(index) > 20_000:
            assert index.nbytes / len(index) < 22


@given(st.lists(st.lists(st.tuples(keys, st.integers(0, 3)), max_size=80), max_size=8))
@settings(max_examples=150, deadline=None)
@pytest.mark.thorough
def test_interner_gives_each_value_one_number_for_good(batches):
    interner, model = Interner(words=2), {}
    for batch in batches:
        numbers = interner.intern(u64(first for first, _ in batch), u64(second for _, second in batch))
        assert numbers.tolist() == [
            model.setdefault(value, n) for value, n in zip(batch, numbers.tolist(), strict=True)
        ]
    assert sorted(model.values()) == list(range(len(interner)))
    for value, number in model.items():
        assert (interner.word(0)[number], interner.word(1)[number]) == value
        assert interner.lookup(u64(value[:1]), u64(value[1:])).tolist() == [number]


def test_interner_tells_values_of_equal_hash_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Interner, "_hash", staticmethod(lambda columns: np.zeros(columns[0].size, np.uint64)))
    interner = Interner()
    assert interner.intern(u64([7, 9, 7, 8])).tolist() == [0, 1, 0, 2]
    assert interner.intern(u64([8, 5])).tolist() == [2, 3]


def test_interner_does_not_know_what_it_never_saw():
    assert Interner().lookup(u64([1, 2])).tolist() == [-1, -1]


@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_pairs_are_numbered_without_a_gap(stretch_by: int, pairs: list[tuple[int, int]]) -> None:
    """Sparse ones, of large numbers, as well as dense ones."""
    first = np.array([a * 10**stretch_by for a, _ in pairs], np.intp)
    second = np.array([b * 10**stretch_by for _, b in pairs], np.intp)
    numbers = number_pairs(first, second).tolist()
    assert sorted(set(numbers)) == list(range(len(set(pairs))))
    assert len(set(zip(pairs, numbers, strict=True))) == len(set(pairs))
