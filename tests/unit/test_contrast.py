"""What the leaked have in common that the freed have not."""

from __future__ import annotations

import numpy as np
from builders import rows as fill
from hypothesis import given
from hypothesis import strategies as st

from kleaktrace.core.contrast import contrasts
from kleaktrace.core.events import Context
from kleaktrace.core.sibling_samples import TRAITS, SiblingSamples


def traits(count: int, **fields: object) -> np.ndarray:
    same = {"comm": b"test", "bytes_req": 40, "gfp_flags": 0xCC0, "cpu": 0, "context": Context.TASK, "taken": 1}
    return fill(TRAITS, *({**same, **fields} for _ in range(count)))


def test_a_size_that_only_the_leaked_have() -> None:
    (found,) = contrasts(traits(10, bytes_req=520), traits(30))
    assert str(found) == "all 10 never freed have size 520; none of 30 freed siblings looked at"


def test_most_of_the_leaked_and_few_of_the_freed() -> None:
    leaked = np.concatenate([traits(19, comm=b"bad"), traits(1)])
    freed = np.concatenate([traits(2, comm=b"bad"), traits(28)])
    (found,) = contrasts(leaked, freed)
    assert str(found) == "19 of 20 never freed have comm bad; 2 of 30 freed siblings looked at"


def test_interrupts_cpus_and_flags_are_compared_too() -> None:
    leaked = traits(8, context=Context.HARDIRQ, cpu=3, gfp_flags=0x820)
    assert [(c.trait, c.value) for c in contrasts(leaked, traits(32))] == [
        ("gfp flags", "0x820"),
        ("CPU", "3"),
        ("context", "hardirq"),
    ]


def test_no_difference_no_word() -> None:
    assert not contrasts(traits(10), traits(30))


def test_a_few_prove_nothing() -> None:
    assert not contrasts(traits(2, cpu=1), traits(30))
    assert not contrasts(traits(10, cpu=1), traits(4))
    # 3 of 3 against 2 of 5: one chance in five
    assert not contrasts(traits(3, cpu=1), np.concatenate([traits(2, cpu=1), traits(3)]))


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


def test_samples_of_what_is_freed_all_the_time_are_renewed() -> None:
    samples = SiblingSamples()
    for batch in range(200):
        stacks = np.zeros(50, np.intp)
        chosen = samples.choose(stacks)
        samples.add(stacks[chosen], chosen, traits(50, gfp_flags=batch)[chosen])
        samples.next_batch()
    assert sorted(set(samples.of(0)["gfp_flags"].tolist())) == [160, 192]
