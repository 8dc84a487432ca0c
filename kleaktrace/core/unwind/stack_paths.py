# SPDX-License-Identifier: GPL-2.0-or-later
"""Where on a kernel stack the return addresses of a known call stack lie, so that a BPF program can recognise it.

Unwinding costs microseconds; comparing a dozen words that lie at known places costs a tenth of that. And it is exact,
for the same reason for which the kernel's own ORC unwinder is (arch/x86/kernel/unwind_orc.c): how to get on the stack
from one return address to the next is a constant of the code at the first of them. Either they are a constant distance
apart, or, where a function aligns or moves its frame, a pointer tells that it, or a function it called, has saved at a
constant distance. So if all words up to one return address are right, the next return address can only lie
at one place, and if the word there is right too, the stacks are the same so far.

These ways are learned from samples: a true unwind together with the words of the stack. Old copies of a return address
lie about on a stack, so one sample may allow several ways; more samples leave one. System call entry moves its frame by
a random amount, but behind it is only the outermost return address, at a constant distance from the stack's end. And
that a stack ends where a known one does is told by that distance, too. What an interrupt came upon lies on another
stack, with no constant way there: such stacks are always unwound.

Known stacks form a radix tree over their return addresses. The first stack of a tree node is compared word by word; the
word that differs is the key to the next node (`bpf/stack_paths.h`, `recognise`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from kleaktrace.core.arrays.types import U64

WINDOW_WORDS = 512
"""Words of the stack that are looked at, from the innermost on (bpf/records.h, WINDOW_WORDS)."""

MOST_SLOTS = 48
"""Return addresses that are compared (bpf/stack_paths.h, PATH_SLOTS)."""

MOST_MOVED = 160
"""Words (bpf/stack_paths.h, MOST_MOVED, in bytes). System call entry moves its frame by at most 128
(include/linux/randomize_kstack.h)."""

_SAMPLES = 4
"""A way is relied on when so many samples have agreed."""

_SAMPLES_OF_TWINS = 12
"""With several ways that all of so many samples allow, the words there are copies of each other."""

_CONFLICTS = 6
"""After so many, there is no constant way."""

_RESTARTS = 3
"""So often, a way that seems not to be constant is learned anew, together with the one before: if that led to a copy of
where this one begins in some stacks, and to the place itself in others, the distances from there do differ."""

_NEAR = 128
"""Words. Frames are rarely larger; less than that in sight says nothing about where a return address is not."""

_MASK = (1 << 64) - 1


def mix(value: int) -> int:
    """The 64-bit mix of bpf/base.h."""
    value = value * 0xFF51AFD7ED558CCD & _MASK
    return value ^ value >> 32


def branch_key(key: int, slot: int, word: int) -> int:
    """The key of the node that goes on where `word` was found instead of the return address in `slot`."""
    return mix(mix(key ^ slot + 1) ^ word)


@dataclass(frozen=True, slots=True)
class StackSample:
    """A true unwind, and the stack it was made from.

    root: key of the tree, from the event, its call site and `modules`. event: which program's. stack: the key of this
    stack, which is that of others, too, if they differ only in what was interrupted. modules: which are loaded, as a
    number; code outside the kernel's own text is the same as long as that is. frames: all return addresses, innermost
    first. words: the stack from the program's context on, upwards; complements, as `hide` makes them. base: address of
    the first word. rest: words there are up to the end of the stack. in_module: a frame is in the module that is
    filtered for. recognised: the key that a known path gave this stack, 0 if none did. cut: the last of the frames is
    not the outermost, and whatever lies further out, it is the same stack.
    """

    root: int
    event: int
    stack: int
    frames: tuple[int, ...]
    words: U64
    base: int
    rest: int
    in_module: bool = False
    recognised: int = 0
    modules: int = 0
    cut: bool = False


class Lead(IntEnum):
    """What lies at the distance of a way."""

    DIRECT = 0
    """The return address."""
    FRAME_POINTER = 1
    """A pointer to the word below the return address."""
    ARGUMENT_POINTER = -1
    """A pointer to the word above it: of functions that align their stack (DRAP in GCC's and ORC's terms)."""
    FROM_END = 2
    """The outermost return address; the distance is counted downwards from the end of the stack."""


class Way(NamedTuple):
    """How to get from one return address to the next: a distance in words, upwards, and what lies there."""

    distance: int
    lead: Lead


class Slot(NamedTuple):
    """A return address, and how to get there from the one before, or from the program's context.

    end: in words; so far from the one before the stack would end instead. 0: that is not known. address: 0 if here it
    must end.
    """

    address: int
    way: Way
    end: int


@dataclass(frozen=True, slots=True)
class StackPath:
    """One node of a tree: recognised when all slots hold, and then the stack has this key."""

    key: int
    stack: int
    slots: tuple[Slot, ...]
    in_module: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What the kernel side should know now: forget all paths first or not, then learn these."""

    forget: bool = False
    paths: tuple[StackPath, ...] = ()


_PREFERENCE = (Lead.DIRECT, Lead.FRAME_POINTER, Lead.ARGUMENT_POINTER, Lead.FROM_END)

Pairs = Sequence[tuple[int, int]]
"""Places where a return address and the next one may lie."""


class _Words:
    """A sample's stack, by what lies where. Places are counted in words from the program's context on."""

    def __init__(self, sample: StackSample, signed_bits: int) -> None:
        end = sample.base + 8 * len(sample.words)
        self.length, self.rest = len(sample.words), sample.rest
        self._outermost = -1
        self.copies: dict[int, list[int]] = {frame: [] for frame in sample.frames}
        self._pointers: dict[int, list[int]] = {}
        for place, word in enumerate((~sample.words).tolist()):
            if word | signed_bits in self.copies:
                self.copies[word | signed_bits].append(place)
            elif sample.base <= word < end and word % 8 == 0:
                self._pointers.setdefault((word - sample.base) // 8, []).append(place)
        if sample.frames and not sample.cut and self.copies[sample.frames[-1]]:
            # Nothing lies above it but registers, and so no copy of it either.
            self._outermost = self.copies[sample.frames[-1]][-1]

    def ways(self, pairs: Pairs) -> set[Way]:
        """All ways that lead along one of the pairs."""
        found = set()
        for here, there in pairs:
            found.add(Way(there - here, Lead.DIRECT))
            if there == self._outermost and there - here <= MOST_MOVED:
                found.add(Way(self.rest - there, Lead.FROM_END))
            for lead in (Lead.FRAME_POINTER, Lead.ARGUMENT_POINTER):
                places = self._pointers.get(there - lead, ())
                found |= {Way(place - here, lead) for place in places if -_NEAR < place - here < _NEAR}
        return found

    def allowed(self, ways: set[Way], pairs: Pairs) -> Pairs:
        """The pairs along which one of the ways leads."""
        return [pair for pair in pairs if self.ways([pair]) & ways]


@dataclass(slots=True)
class _Step:
    """What is known of the way from one return address to the next."""

    ways: set[Way] = field(default_factory=set)
    """Those that the last samples allow."""
    agreeing: int = 0
    """So many samples."""
    conflicts: int = 0
    """How often a sample allowed none of the ways. One may come of a wrong way to where this step begins."""
    forks: bool = False
    """The ways led to different places in the last sample."""
    restarts: int = 0
    """How often it was learned anew."""
    elsewhere: bool = False
    """The next return address once was not on this stack at all."""

    def start_again(self) -> None:
        """Forget what was learned."""
        self.ways = set()
        self.agreeing = self.conflicts = 0
        self.forks = False
        self.restarts += 1

    @property
    def varies(self) -> bool:
        """Whether there is no constant way."""
        return self.elsewhere or self.conflicts >= _CONFLICTS

    @property
    def way(self) -> Way | None:
        """The way to rely on, a direct one if there is one; None if there is none yet, or at all."""
        if self.varies or self.forks or self.agreeing < _SAMPLES:
            return None
        return min(self.ways, key=lambda way: (_PREFERENCE.index(way.lead), way))

    def narrow(self, words: _Words, pairs: Pairs) -> Pairs:
        """Leave the ways that another sample allows, too. Returns the pairs along which they lead."""
        self.elsewhere |= not pairs
        ways = words.ways(pairs)
        if self.agreeing and not self.ways & ways:
            self.conflicts += 1
            self.agreeing = 0
        self.ways = self.ways & ways if self.agreeing else ways
        self.agreeing += 1
        pairs = words.allowed(self.ways, pairs)
        self.forks = len(pairs) > 1
        if self.forks and self.agreeing >= _SAMPLES_OF_TWINS:
            # Copies in the callee's frame, such as the allocators keep of their caller's address, lie below it.
            pairs = [max(pairs, key=lambda pair: pair[1])]
            self.ways &= words.ways(pairs)
            self.forks = False
        return pairs


@dataclass(slots=True)
class _End:
    """What is known of the distance from an outermost return address to the end of the stack."""

    distances: set[int] = field(default_factory=set)
    agreeing: int = 0

    @property
    def distance(self) -> int:
        """In words; 0 if it is not known, or not constant."""
        return max(self.distances) if len(self.distances) == 1 and self.agreeing >= _SAMPLES else 0

    def narrow(self, distances: set[int]) -> None:
        """Leave what another sample allows, too."""
        self.distances = self.distances & distances if self.agreeing else distances
        self.agreeing += 1


_NO_END = _End()


@dataclass(frozen=True, slots=True)
class _Known:
    """A stack of which there was a sample."""

    root: int
    event: int
    stack: int
    frames: tuple[int, ...]
    in_module: bool
    modules: int
    cut: bool


_Code = tuple[int, int]
"""A return address, or an event, and the modules that were loaded if it depends on them what lies there, else 0."""


class StackPaths:
    """Learns from samples. Holds at most `most` stacks; what comes later is not learned.

    Of those that were learned with other modules loaded, it makes room when it needs to, by forgetting everything.
    `kernel_text`: addresses whose code is always the same. `signed_bits` are set in all addresses of code; on the stack
    there may be a signature instead.
    """

    def __init__(self, most: int, kernel_text: range = range(0), signed_bits: int = 0) -> None:
        self._most = most
        self._signed_bits = signed_bits
        self._kernel_text = kernel_text
        self._steps: dict[_Code, _Step] = {}
        self._ends: dict[_Code, _End] = {}
        self._known: dict[tuple[int, tuple[int, ...]], _Known] = {}
        self._modules: set[int] = set()  # of the known ones
        self._paths: dict[int, StackPath] = {}

    def __len__(self) -> int:
        """How many stacks can be recognised."""
        return len(self._paths)

    def _code(self, modules: int, address: int) -> _Code:
        return (0 if address in self._kernel_text else modules), address

    def _make_room(self, modules: int) -> bool:
        """Forget everything, if some of it is of other modules than those that are loaded now."""
        if self._modules <= {modules}:
            return False
        self._modules.clear()
        self._steps.clear()
        self._ends.clear()
        self._known.clear()
        self._paths.clear()
        return True

    def learn(self, sample: StackSample) -> Change:
        """Take a sample; what changes for the kernel side."""
        name = sample.root, sample.frames
        forgotten = False
        if name not in self._known:
            if len(self._known) >= self._most:
                forgotten = self._make_room(sample.modules)
                if not forgotten:
                    return Change()
            self._modules.add(sample.modules)
            self._known[name] = _Known(
                sample.root, sample.event, sample.stack, sample.frames, sample.in_module, sample.modules, sample.cut
            )
        otherwise = self._learn_steps(sample)
        if not otherwise:
            try:
                return Change(forgotten, tuple(self._enter(self._known[name])))
            except _Otherwise:
                pass
        return self._build_again()

    def _build_again(self) -> Change:
        self._paths.clear()
        return Change(True, tuple(path for one in self._known.values() for path in self._enter(one)))

    def _learn_steps(self, sample: StackSample) -> bool:
        """Whether something that was relied on has turned out otherwise."""
        otherwise = False
        words = _Words(sample, self._signed_bits)
        steps = self._pairs(sample, words)
        reached = {0}  # the context itself
        for number, pairs in enumerate(steps):
            step = self._step(sample, number)
            was = step.way
            from_there = [(here, there) for here, there in pairs if here in reached]
            reached = {there for _, there in step.narrow(words, from_there or pairs)}
            if step.conflicts >= _CONFLICTS and step.restarts < _RESTARTS:
                otherwise |= self._start_again(sample, number)
            otherwise |= was not in (None, step.way)
        if len(steps) == len(sample.frames) and steps[-1] and not sample.cut:
            end = self._ends.setdefault(self._code(sample.modules, sample.frames[-1]), _End())
            was_end = end.distance
            end.narrow({sample.rest - there for there in reached})
            otherwise |= was_end not in (0, end.distance)
        return otherwise

    def _start_again(self, sample: StackSample, number: int) -> bool:
        """Learn a step and the one before it anew; whether something relied on that one."""
        before = self._step(sample, max(number - 1, 0))
        was = before.way
        self._step(sample, number).start_again()
        before.start_again()
        return was is not None

    def _step(self, sample: StackSample, number: int) -> _Step:
        """The step that leads to a return address of the sample."""
        parent = self._code(sample.modules, sample.frames[number - 1]) if number else (0, sample.event)
        return self._steps.setdefault(parent, _Step())

    def _pairs(self, sample: StackSample, words: _Words) -> list[Pairs]:
        """For each step, the places it can lead from and to; up to the first that has no constant way."""
        steps: list[Pairs] = []
        before = [0]
        for number, frame in enumerate(sample.frames):
            step = self._step(sample, number)
            outermost = number == len(sample.frames) - 1 and not sample.cut
            copies = words.copies[frame][-1:] if outermost else words.copies[frame]
            above: Pairs = [(here, there) for there in copies for here in before if there > here]
            if not above and words.length < words.rest and before[-1] + _NEAR > words.length:
                break  # out of sight
            pairs = words.allowed(step.ways, above) or above
            steps.append(pairs)
            if not pairs or step.varies:
                break
            before = sorted({there for _, there in pairs})
        _prune(steps)
        return steps

    def _enter(self, known: _Known) -> Iterator[StackPath]:
        """The path for a stack at its place in the tree, if it can be recognised and is not there yet.

        Raises `_Otherwise` if the paths there were made when less was known.
        """
        slots = self._slots(known)
        if not slots or len(self._paths) >= self._most:
            return
        key = known.root
        while (path := self._paths.get(key)) is not None:
            if path.slots == slots:
                return
            differing = (
                number for number, (one, other) in enumerate(zip(path.slots, slots, strict=False)) if one != other
            )
            number = next(differing, None)
            if number is None:
                return  # one that is cut, and one that was not, with other functions to cut at
            if path.slots[number][1:] != slots[number][1:]:
                raise _Otherwise
            key = branch_key(key, number, slots[number].address)
        path = StackPath(key, known.stack, slots, known.in_module, known.cut)
        self._paths[key] = path
        yield path

    def _slots(self, known: _Known) -> tuple[Slot, ...] | None:
        """How to get to its return addresses, and to its end if that matters; None if that is not known of all."""
        slots: list[Slot] = []
        if len(known.frames) >= MOST_SLOTS:
            return None
        parents = [(0, known.event), *(self._code(known.modules, frame) for frame in known.frames)]
        wanted = known.frames if known.cut else (*known.frames, 0)
        for parent, frame in zip(parents, wanted, strict=not known.cut):
            step = self._steps.get(parent)
            way = step.way if step else None
            end = self._ends.get(parent, _NO_END).distance
            if not end if frame == 0 else way is None:
                return None
            slots.append(Slot(frame, way or Way(0, Lead.DIRECT), end))
        return tuple(slots)


class _Otherwise(Exception):
    """Something that paths rely on has changed."""


def _prune(steps: list[Pairs]) -> None:
    """Drop pairs that lead where no later step begins."""
    for number in range(len(steps) - 2, -1, -1):
        begins = {here for here, _ in steps[number + 1]}
        if begins:
            steps[number] = [(here, there) for here, there in steps[number] if there in begins]
