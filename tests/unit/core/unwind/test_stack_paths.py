# SPDX-License-Identifier: GPL-2.0-or-later
"""Stacks are recognised by what was learned from samples: often, and never wrongly."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from kleaktrace.core.unwind.stack_paths import (
    MOST_MOVED,
    WINDOW_WORDS,
    Change,
    Lead,
    StackPath,
    StackPaths,
    StackSample,
    Way,
    branch_key,
)

TEXT = 0xFFFFFFFF81000000
STACK = 0xFFFFC90000004000
EVENT, ROOT = 2, 77
OVERWRITTEN = 0.6
"""The share of a frame that a function writes to; the rest keeps what was there before."""
ENTRY = TEXT + 0x999
"""What lies behind the function that moves its frame at random, as system call entry does."""


@dataclass
class Site:
    """A place that calls: how its function's frame lies on the stack. Lengths in words."""

    address: int
    frame: int
    """From the return address of what it calls to its own."""
    aligned: bool = False
    """It aligns its stack to 16 bytes, and keeps a pointer to its arguments at a constant place below."""
    copies_caller: bool = False
    """It keeps its return address in a local, too."""
    random: bool = False
    """It moves its frame by a random amount: system call entry."""


@dataclass
class Machine:
    """Calls functions, and remembers what the stack looked like. Dead slots keep what was there before."""

    seed: int
    memory: list[int] = field(default_factory=list)
    signed_bits: int = 0
    """Of return addresses on the stack: a signature is there, another one each time."""

    def __post_init__(self) -> None:
        self.chance = random.Random(self.seed)
        self.memory = [0] * 2048

    def _overwrite(self, start: int, end: int) -> None:
        for place in range(start, end):
            if self.chance.random() < OVERWRITTEN:
                self.memory[place] = 0

    def _signed(self, address: int) -> int:
        return address & ~self.signed_bits | self.chance.getrandbits(64) & self.signed_bits

    def call(self, chain: Sequence[Site], stack: int, outermost: int = ENTRY) -> StackSample:
        """Call along the chain, outermost site last; take a sample in the innermost."""
        top = 2000
        place = top
        frames = [*(site.address for site in chain), outermost]
        self.memory[place] = self._signed(outermost)
        for number in range(len(chain) - 1, -1, -1):
            site = chain[number]
            own = place
            place -= site.frame
            if site.random:
                place -= 2 * self.chance.randrange(64)
            self._overwrite(place + 1, own)
            if site.aligned:
                place -= place % 2
                self.memory[place + 2] = STACK + 8 * (own + 1)
            if site.copies_caller:
                self.memory[place + 3] = self._signed(frames[number + 1])
            self.memory[place] = self._signed(site.address)
        base = place - 5
        rest = top + 20 - base
        words = np.array(self.memory[base : base + min(WINDOW_WORDS, rest)], np.uint64)
        return StackSample(ROOT, EVENT, stack, tuple(frames), ~words, STACK + 8 * base, rest)


class Kernel:
    """The kernel side: `recognise` of bpf/stack_paths.h."""

    def __init__(self, signed_bits: int = 0) -> None:
        self.paths: dict[int, StackPath] = {}
        self._signed_bits = signed_bits

    def take(self, change: Change) -> None:
        if change.forget:
            self.paths.clear()
        self.paths |= {path.key: path for path in change.paths}

    def recognise(self, sample: StackSample) -> int | None:
        words = (~sample.words).tolist()
        key, number, place = sample.root, 0, 0
        path = self.paths.get(key)
        while path is not None and number < len(path.slots):
            slot = path.slots[number]
            there = 0
            word = 0
            if not slot.end or place + slot.end != sample.rest:
                there = self._follow(slot.way, place, words, sample)
                if not 0 <= there < len(words):
                    return None
                word = words[there] | self._signed_bits
            if word == slot.address:
                number, place = number + 1, there
                continue
            key = branch_key(key, number, word)
            path = self.paths.get(key)
        return path.stack if path else None

    def _follow(self, way: Way, place: int, words: list[int], sample: StackSample) -> int:
        if way.lead is Lead.FROM_END:
            there = sample.rest - way.distance
            return there if there - place <= MOST_MOVED else -1
        there = place + way.distance
        if way.lead and 0 <= there < len(words):
            return (words[there] - sample.base) // 8 + way.lead
        return there


def sites(chance: random.Random, count: int) -> list[Site]:
    kinds = [{}, {}, {}, {"aligned": True}, {"copies_caller": True}, {"aligned": True, "copies_caller": True}]
    return [
        Site(TEXT + 0x100 * number, chance.randrange(6, 30), **chance.choice(kinds)) for number in range(1, count + 1)
    ]


def chains(chance: random.Random, count: int) -> list[list[Site]]:
    """Call chains as programs have them: a site's callers are few, and all end in the same system call entry."""
    pool = sites(chance, 24)
    entry = Site(TEXT + 0x9990, 10, random=True)
    made = []
    for _ in range(count):
        depth = chance.randrange(3, 10)
        levels = [chance.choice(pool[3 * level : 3 * level + 3]) for level in range(min(depth, 8))]
        made.append([*levels, entry])
    return made


SIGNED_BITS = 0xFFFF800000000000


@given(st.integers(0, 2**32), st.sampled_from([0, SIGNED_BITS]))
@settings(max_examples=40, deadline=None)
@example(388031, 0)  # where one step begins is taken for a copy of it by some stacks, and for itself by others
@example(3324372, 0)
@example(1, SIGNED_BITS)
@pytest.mark.thorough
def test_known_stacks_are_recognised_and_not_for_others(seed: int, signed_bits: int) -> None:
    machine = Machine(seed, signed_bits=signed_bits)
    known, others = chains(machine.chance, 12), chains(machine.chance, 6)
    keys = {tuple(s.address for s in chain): number + 1 for number, chain in enumerate([*known, *others])}
    paths, kernel = StackPaths(1000, signed_bits=signed_bits), Kernel(signed_bits)
    asked, right, wrong = 0, 0, 0
    for turn in range(1500):
        chain = machine.chance.choice([*known, *known, *others])
        key = keys[tuple(site.address for site in chain)]
        sample = machine.call(chain, key)
        found = kernel.recognise(sample)
        if turn <= 1000:
            if found != key and chain in known:
                kernel.take(paths.learn(sample))
            continue
        asked += chain in known
        right += found == key
        wrong += found not in (None, key)
    assert right > 0.9 * asked
    assert wrong <= 1  # a stale copy of a return address that was always at the same place: 1 of 100,000 stacks


def learned(machine: Machine, paths: StackPaths, chain: Sequence[Site], key: int, samples: int = 30) -> Kernel:
    kernel = Kernel()
    for _ in range(samples):
        kernel.take(paths.learn(machine.call(chain, key)))
    return kernel


PLAIN = [Site(TEXT + 0x10, 7), Site(TEXT + 0x20, 12), Site(TEXT + 0x30, 9)]
SYSTEM_CALL = Site(TEXT + 0x40, 10, random=True)


def test_a_stack_is_recognised_wherever_system_call_entry_put_it() -> None:
    machine = Machine(1)
    kernel = learned(machine, StackPaths(10), [*PLAIN, SYSTEM_CALL], 5)
    assert all(kernel.recognise(machine.call([*PLAIN, SYSTEM_CALL], 5)) == 5 for _ in range(100))


def test_one_sample_is_not_enough() -> None:
    assert not learned(Machine(1), StackPaths(10), PLAIN, 5, samples=3).paths


def test_stacks_that_differ_outside_only_are_told_apart() -> None:
    machine, paths = Machine(2), StackPaths(10)
    other = [*PLAIN[:2], Site(TEXT + 0x50, 9), SYSTEM_CALL]
    kernel = learned(machine, paths, [*PLAIN, SYSTEM_CALL], 5)
    for turn in range(30):
        assert kernel.recognise(machine.call(other, 6)) in ((None,) if turn < 4 else (None, 6))
        kernel.take(paths.learn(machine.call(other, 6)))
    assert kernel.recognise(machine.call(other, 6)) == 6
    assert kernel.recognise(machine.call([*PLAIN, SYSTEM_CALL], 5)) == 5


def cut(sample: StackSample, stack: int) -> StackSample:
    """As it is handed over where what lies beyond the second frame does not matter."""
    return replace(sample, frames=sample.frames[:2], stack=stack, cut=True)


def test_where_a_stack_is_cut_all_that_begin_like_it_are_recognised_as_one() -> None:
    machine, paths, kernel = Machine(4), StackPaths(10), Kernel()
    callers = [[*PLAIN[:2], Site(TEXT + 0x60 + number, 8 + number), SYSTEM_CALL] for number in range(6)]
    for chain in callers[:5]:
        kernel.take(paths.learn(cut(machine.call(chain, 5), 5)))
    (path,) = kernel.paths.values()
    assert (path.cut, len(path.slots), path.stack) == (True, 2, 5)
    assert kernel.recognise(machine.call(callers[5], 6)) == 5, "though nobody has seen it yet"
    other = [PLAIN[0], Site(TEXT + 0x80, 9), SYSTEM_CALL]
    for _ in range(8):
        kernel.take(paths.learn(machine.call(other, 7)))
    assert kernel.recognise(machine.call(other, 7)) == 7
    assert kernel.recognise(machine.call(callers[0], 6)) == 5


def test_what_an_interrupt_came_upon_is_always_unwound() -> None:
    """Behind the interrupt's entry lies another stack: its return addresses are not among the words."""
    machine, paths = Machine(3), StackPaths(10)
    for turn in range(50):
        sample = machine.call(PLAIN, 5)
        elsewhere = (*sample.frames[:-1], TEXT + 0x7000)
        sample = StackSample(ROOT, EVENT, 5, elsewhere, sample.words, sample.base, sample.rest)
        assert not paths.learn(sample).paths, turn


def test_a_stack_that_goes_on_where_a_known_one_ends_is_told_apart() -> None:
    """As page faults of the kernel do, and those of programs."""
    machine, paths, kernel = Machine(4), StackPaths(10), Kernel()
    fault = TEXT + 0x80
    in_kernel = [*PLAIN, Site(fault, 21), Site(TEXT + 0x90, 9), SYSTEM_CALL]
    for _ in range(30):
        kernel.take(paths.learn(machine.call(PLAIN, 5, fault)))
    for _ in range(30):
        sample = machine.call(in_kernel, 6)
        assert kernel.recognise(sample) in (None, 6)
        kernel.take(paths.learn(sample))
    assert kernel.recognise(machine.call(PLAIN, 5, fault)) == 5
    assert kernel.recognise(machine.call(in_kernel, 6)) == 6


def test_stacks_that_have_one_key_are_each_learned() -> None:
    """They differ in what a fault came upon, which is no part of the key."""
    machine, paths, kernel = Machine(8), StackPaths(10), Kernel()
    fault = Site(TEXT + 0x80, 21)
    variants = [[*PLAIN, fault, Site(TEXT + 0x90 + number, 9), SYSTEM_CALL] for number in range(3)]
    for turn in range(60):
        kernel.take(paths.learn(machine.call(variants[turn % 3], 5)))
    assert [kernel.recognise(machine.call(variant, 5)) for variant in variants] == [5, 5, 5]
    unknown = [*PLAIN, fault, Site(TEXT + 0xA0, 9), SYSTEM_CALL]
    assert kernel.recognise(machine.call(unknown, 5)) is None


def of_modules(sample: StackSample, modules: int) -> StackSample:
    return replace(sample, modules=modules, root=sample.root + modules)


def test_other_code_at_the_same_addresses_is_learned_by_itself_and_what_comes_again_is_known() -> None:
    machine, paths, kernel = Machine(5), StackPaths(10), Kernel()
    rebuilt = [Site(site.address, site.frame + 3) for site in PLAIN]
    for modules, chain in ((1, PLAIN), (2, rebuilt)):
        for turn in range(30):
            sample = of_modules(machine.call(chain, modules), modules)
            assert kernel.recognise(sample) in ((None,) if turn < 4 else (None, modules))
            kernel.take(paths.learn(sample))
    for modules, chain in ((1, PLAIN), (2, rebuilt), (1, PLAIN)):
        assert kernel.recognise(of_modules(machine.call(chain, modules), modules)) == modules


def test_the_kernel_s_own_code_is_known_whatever_modules_there_are() -> None:
    machine, paths, kernel = Machine(5), StackPaths(10, range(TEXT, TEXT + 0x100000)), Kernel()
    for _ in range(30):
        kernel.take(paths.learn(of_modules(machine.call(PLAIN, 5), 1)))
    kernel.take(paths.learn(of_modules(machine.call(PLAIN, 5), 2)))
    assert kernel.recognise(of_modules(machine.call(PLAIN, 5), 2)) == 5
    assert kernel.recognise(of_modules(machine.call(PLAIN, 5), 3)) is None


def test_what_was_learned_with_other_modules_makes_room() -> None:
    machine, paths, kernel = Machine(6), StackPaths(2), Kernel()
    for modules in (1, 2):
        for number in range(2):
            chain = [PLAIN[0], PLAIN[1], Site(TEXT + 0x1000 + number, 9), SYSTEM_CALL]
            for _ in range(20):
                kernel.take(paths.learn(of_modules(machine.call(chain, number + 1), modules)))
        assert len(paths) == len(kernel.paths) == 2
        assert kernel.recognise(of_modules(machine.call(chain, 2), modules)) == 2
    assert kernel.recognise(of_modules(machine.call(chain, 2), 1)) is None


def test_no_more_stacks_are_learned_than_allowed() -> None:
    machine, paths = Machine(6), StackPaths(2)
    kernel = Kernel()
    for number in range(4):
        chain = [PLAIN[0], PLAIN[1], Site(TEXT + 0x1000 + number, 9), SYSTEM_CALL]
        for _ in range(20):
            kernel.take(paths.learn(machine.call(chain, number + 1)))
    assert len(paths) == len(kernel.paths) == 2


def test_a_stack_deeper_than_the_window_is_left_to_the_unwinder() -> None:
    deep = [Site(TEXT + 0x10 * number, 40) for number in range(1, 30)]
    assert not learned(Machine(7), StackPaths(10), deep, 5).paths


@pytest.mark.parametrize("words", [0, 1])
def test_a_sample_without_words_teaches_nothing(words: int) -> None:
    sample = StackSample(ROOT, EVENT, 5, (TEXT,), np.zeros(words, np.uint64), STACK, 1000)
    paths = StackPaths(10)
    assert not any(paths.learn(sample).paths for _ in range(20))
