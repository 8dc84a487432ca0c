# SPDX-License-Identifier: GPL-2.0-or-later
"""What the leaked have in common that the freed have not."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from builders import SECOND
from builders import rows as fill
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.contrasts import contrasts
from kleaktrace.core.ledger.free_samples import TRAITS, SiblingSamples


def traits(count: int, **fields: object) -> np.ndarray:
    """So many allocations that are alike, one each second."""
    same = {"comm": b"test", "bytes_req": 40, "gfp_flags": 0xCC0, "cpu": 0, "context": Context.TASK, "taken": 1}
    made = fill(TRAITS, *({**same, **fields} for _ in range(count)))
    made["time_ns"] = np.arange(count) * SECOND
    return made


def joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts)


def spread(leaked: np.ndarray, seconds: int = 100) -> np.ndarray:
    """The same, from the first second to the last of so many."""
    leaked["time_ns"] = np.linspace(0, seconds * SECOND, leaked.size).astype(np.uint64)
    return leaked


def test_a_size_that_only_the_leaked_have() -> None:
    (found,) = contrasts(spread(traits(10, bytes_req=520)), traits(30))
    assert str(found) == (
        "all 10 never freed have size 520; none of 30 freed siblings of the same time; by chance 1 in 140,000,000"
    )
    # Fisher: one way of choosing 10 of 40. Two sizes were common enough to be looked at, and one value of all else.
    assert found.by_chance == pytest.approx(6 / comb(40, 10))


def test_most_of_the_leaked_and_few_of_the_freed() -> None:
    leaked = spread(joined(traits(19, comm=b"bad"), traits(1)))
    freed = joined(traits(2, comm=b"bad"), traits(28))
    (found,) = contrasts(leaked, freed)
    assert str(found).startswith(
        "19 of 20 never freed have comm bad; 2 of 30 freed siblings of the same time; by chance"
    )
    assert 0 < found.by_chance < 1e-6


def test_traits_that_pick_out_the_same_are_one_hint_the_most_telling_first() -> None:
    leaked = spread(traits(8, context=Context.HARDIRQ, cpu=3, gfp_flags=0x820))
    (found,) = contrasts(leaked, traits(32))
    assert (found.trait, found.value, found.also) == ("context", "hardirq", (("gfp flags", "0x820"), ("CPU", "3")))
    assert "have context hardirq and gfp flags 0x820 and CPU 3; none of 32" in str(found)


def test_traits_that_pick_out_different_ones_are_two() -> None:
    freed = joined(traits(20), traits(20, bytes_req=520))
    one, other = contrasts(spread(traits(12, bytes_req=520, cpu=3)), freed)
    assert (one.trait, one.freed, other.trait, other.freed) == ("size", 20, "CPU", 0)


def test_no_difference_no_word() -> None:
    assert not contrasts(spread(traits(10)), traits(30))


def test_a_few_prove_nothing() -> None:
    assert not contrasts(spread(traits(2, cpu=1)), traits(30))
    assert not contrasts(spread(traits(10, cpu=1)), traits(4))
    # 3 of 3 against 2 of 5: one chance in five
    assert not contrasts(spread(traits(3, cpu=1)), joined(traits(2, cpu=1), traits(3)))


def test_siblings_of_another_time_are_none() -> None:
    """A loop that goes on leaking while it is on one CPU, and later does the same on another without leaking."""
    leaked, later = traits(16, cpu=1), traits(30)
    later["time_ns"] += np.uint64(16 * SECOND)
    assert not contrasts(leaked, later)
    assert not contrasts(leaked, joined(traits(16, cpu=1), later))
    assert contrasts(leaked, joined(traits(16), later))


@pytest.mark.parametrize(
    "comm", [b"kworker/1:0", b"kworker/u8:2-ev", b"ksoftirqd/1", b"rcu_preempt", b"rcuc/1", b"swapper/0"]
)
def test_a_thread_of_the_kernel_is_no_trait(comm: bytes) -> None:
    assert not contrasts(spread(traits(10, comm=comm)), traits(30, comm=b"kworker/0:1"))


def test_who_was_interrupted_is_no_trait() -> None:
    leaked = spread(traits(10, comm=b"unlucky", context=Context.SOFTIRQ))
    assert not contrasts(leaked, traits(30, context=Context.SOFTIRQ))


def test_the_error_is_no_larger_than_it_says() -> None:
    """Of stacks whose leaks have nothing to do with any trait, one in a hundred may get a hint."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(1000):
        every = spread(traits(40))
        every["cpu"] = random.random(40) < 0.5
        every["bytes_req"] = random.integers(0, 3, 40)
        every["gfp_flags"] = random.random(40) < 0.2
        every["comm"] = np.array([b"a", b"b"])[random.integers(0, 2, 40)]
        leak = random.permutation(40) < 8
        wrong += bool(contrasts(every[leak], every[~leak]))
    assert wrong <= 10


@given(st.lists(st.lists(st.integers(0, 4), max_size=200), max_size=6))
def test_samples_are_of_the_stack_and_few_at_a_time(batches: list[list[int]]) -> None:
    samples = SiblingSamples()
    for batch, numbers in enumerate(batches):
        stacks = np.array(numbers, np.intp)
        chosen = samples.choose(stacks)
        made = traits(stacks.size, gfp_flags=batch)
        made["bytes_req"] = stacks
        samples.add(stacks[chosen], chosen, made[chosen])
        samples.next_batch()
        assert max(np.bincount(stacks[chosen]), default=0) <= 16
    for stack in range(5):
        kept = samples.of(stack)
        assert set(kept["bytes_req"].tolist()) <= {stack}
        seen = [batch for batch, numbers in enumerate(batches) if stack in numbers]
        assert bool(kept.size) == bool(seen)
        if seen and sum(numbers.count(stack) for numbers in batches[: seen[-1]]) < 16:
            assert seen[-1] in kept["gfp_flags"]
    assert not samples.of(-1).size
    assert not samples.of(99).size


def sampled(batches: int, per_batch: int = 50) -> np.ndarray:
    """Samples of a stack that frees in each batch; `gfp_flags` is the number of the batch."""
    samples = SiblingSamples()
    for batch in range(batches):
        stacks = np.zeros(per_batch, np.intp)
        chosen = samples.choose(stacks)
        samples.add(stacks[chosen], chosen, traits(per_batch, gfp_flags=batch)[chosen])
        samples.next_batch()
    return samples.of(0)["gfp_flags"].astype(int)


def test_samples_of_what_is_freed_all_the_time_are_of_this_epoch_and_of_all_before() -> None:
    taken = sampled(32 * 100 + 1)
    assert taken.size == 32
    assert np.count_nonzero(taken == 3200) == 16
    earlier = taken[taken < 3200]
    assert set(earlier % 32) == {0}
    # sixteen of a hundred epochs, each as likely: the mean is 49.5 epochs, its deviation 29 / 4
    assert abs(earlier.mean() / 32 - 49.5) < 4 * 29 / 4


def test_every_epoch_is_as_likely_to_be_kept() -> None:
    counts = np.zeros(8)
    samples = SiblingSamples()
    stacks = np.repeat(np.arange(400), 16)
    freed = traits(stacks.size)
    for batch in range(32 * 8):
        freed["gfp_flags"] = batch // 32
        chosen = samples.choose(stacks)
        samples.add(stacks[chosen], chosen, freed[chosen])
        samples.next_batch()
    for stack in range(400):
        counts += np.bincount(samples.of(stack)["gfp_flags"], minlength=8)
    assert counts.sum() == 400 * 16
    # 800 of each epoch are expected, with a deviation of sqrt(800 * 7/8)
    assert np.abs(counts - 800).max() < 5 * 26.5


def test_a_rare_free_is_never_dropped_while_there_is_room() -> None:
    assert sorted(sampled(16, per_batch=1)) == list(range(16))
    assert sorted(sampled(32, per_batch=1)) == list(range(16))
