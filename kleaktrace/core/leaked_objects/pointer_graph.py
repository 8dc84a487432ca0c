# SPDX-License-Identifier: GPL-2.0-or-later
"""Which leaked objects hang on which: of 73 that are lost, one may be the cause.

Words and addresses are complemented throughout, as objects go by hidden addresses (`records.hide`): an object of `size`
bytes named `name` has the complements (name - size, name].

What counts as holding:

- A word that points anywhere into another object: list heads and embedded members point inside. One past the end is
  its neighbour's.
- Only the bytes that were asked for, of holder and held: what the allocator adds is never written, and full of old
  pointers. SLUB's link to the next free object, in the middle of a free one, may be left there too: not counted.
- Not what was allocated after the code was gone whose memory the holder is: who would have written that pointer? It was
  to what was there before, as from a device that leaked to one that did not, whose memory was used again.
- Not what kmemleak has found referenced, by what it has not: it follows pointers from whatever is referenced, so
  something else points to it as well. What the other one pointed to was freed, and its memory used again.
- Per-CPU memory is held by its exact offset; as offsets are small, near ones may be numbers. It is not searched.

Objects of one kind are equals, and none is the cause of the other: ten that are leaked, each on the driver's list and
so pointing to the next, are ten causes. Those of one call stack are of one kind; so are others, as `kinds` says.
Pointers between them, either way, only make them *fellows*: who holds one of them holds them all, as a device does that
has the head of a list.

For the same reason siblings are judged alike. Old pointers lie in reused memory, and one of them must not make one of
40 equals hang on a stranger: if of a stack no more than a quarter are held from outside, as far as fellows go, those
pointers are not counted. (Objects that hold each other in a circle are not outside.)

A root is what nothing else holds. Where objects hold each other in a circle, as parent and child do, the roots are all
those in it of the kind with the most neighbours of other kinds, in the mean: children have their parent, the parent
has them all. If that is even, the kind of the largest, then of the oldest, then of that at the lowest address.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U64, Index
from kleaktrace.core.events.records import Kind, Rows

_WORD = np.uint64(8)
_STRAY = 4
"""One in so many, or fewer."""
_FEW_WORDS = np.uint64(64)
"""Bytes: what is smaller is seldom left half unwritten, and its middle is as likely a member as not."""


@dataclass(frozen=True, slots=True)
class Descriptions:
    """Which of the objects only describe another one that has them, as nodes of kernfs do; masks run parallel to them.

    nodes: those; parts: what belongs to a node, as its name does.
    """

    nodes: npt.NDArray[np.bool_]
    parts: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ObjectGraph:
    """Who hangs on whom; arrays run parallel to the objects."""

    root_of: Index
    """Number of the root that the object hangs on: the nearest one, then the largest. A root's is its own."""
    held: Index
    """How many others hang on it; 0 for what is no root."""
    held_bytes: Index
    """Their bytes (allocated)."""

    @property
    def roots(self) -> Index:
        """Numbers of the roots, ascending."""
        roots: Index = (self.root_of == np.arange(self.root_of.size)).nonzero()[0]
        return roots


def object_graph(
    rows: Rows,
    words: Sequence[U64],
    descriptions: Descriptions | None = None,
    until_ns: U64 | None = None,
    referenced: npt.NDArray[np.bool_] | None = None,
    kinds: Index | None = None,
) -> ObjectGraph:
    """Find the roots among objects.

    rows: OUTSTANDING, no two of the same object. words: of each the words of its memory from its start on,
    complemented, as many as could be read. Leave out index nodes (of IDRs, XArrays, maple trees): they hold whatever is
    in the index. descriptions: see there. until_ns: of each when the code went whose it is. referenced: which of them
    kmemleak knows and does not list. kinds: a number of each, the same for equals; without, of each call stack its own.
    The order of objects makes no difference. Needs memory as the square of their number: 16 MiB for 4,096.
    """
    size = rows["bytes_alloc"].astype(np.int64)
    order = np.lexsort((~rows["object"], rows["time_ns"], -size))  # largest, oldest, lowest: the first decide
    ranked = rows[order]
    holders, targets = _pointers(ranked, [words[number] for number in order])
    if until_ns is not None:
        earlier = ranked["time_ns"][targets] <= until_ns[order][holders]
        holders, targets = holders[earlier], targets[earlier]
    if referenced is not None:
        reached = referenced[order]
        possible = reached[holders] | ~reached[targets]
        holders, targets = holders[possible], targets[possible]
    if descriptions is not None:
        holders, targets = _downwards(holders, targets, descriptions.nodes[order], descriptions.parts[order])
    equals = np.unique(rows["stack"] if kinds is None else kinds, return_inverse=True)[1][order]
    owners = _Holding.of(equals, *_without_strays(equals, holders, targets)).owners()
    root_of = np.empty(rows.size, np.intp)
    root_of[order] = order[owners]
    hanging = root_of != np.arange(rows.size)
    held = np.bincount(root_of[hanging], minlength=rows.size)
    held_bytes = np.bincount(root_of[hanging], size[hanging], rows.size).astype(np.intp)  # exact up to 2**53
    return ObjectGraph(root_of, held, held_bytes)


def _downwards(
    holders: Index, targets: Index, nodes: npt.NDArray[np.bool_], parts: npt.NDArray[np.bool_]
) -> tuple[Index, Index]:
    """Turn round what points to who has it: what describes an object is not its cause.

    A node of kernfs (fs/kernfs/dir.c) points to its kobject, and that, until it is removed, to the node; and to its
    parent. If the parent's kobject leaked, too, that is why the node is there. If not, the parent is only there because
    the node is.
    """
    of_node = nodes[holders]
    to_owner = of_node & ~nodes[targets] & ~parts[targets]
    owned = np.zeros(nodes.size, np.bool_)
    owned[holders[to_owner]] = True
    upwards = to_owner | (of_node & nodes[targets] & owned[targets])
    return np.where(upwards, targets, holders), np.where(upwards, holders, targets)


def _pointers(rows: Rows, words: Sequence[U64]) -> tuple[Index, Index]:
    """Pairs (holder, held), some more than once; who points into itself is its own fellow, which changes nothing."""
    if not rows.size:
        return np.zeros(0, np.intp), np.zeros(0, np.intp)
    percpu = rows["kind"] == Kind.PERCPU
    asked_for = rows["bytes_req"].astype(np.uint64)
    lengths = np.where(percpu, 0, asked_for // _WORD).astype(np.intp)
    read = [some[:length] for some, length in zip(words, lengths.tolist(), strict=True)]
    word = np.concatenate([np.zeros(0, np.uint64), *read])
    counts = np.array([some.size for some in read], np.intp)
    by_name = np.argsort(rows["object"])
    names = rows["object"][by_name]
    before = names[:1] - asked_for.max()
    places = (word - before <= names[-1] - before).nonzero()[0]  # most words point nowhere near
    word = word[places]
    holders = np.searchsorted(np.cumsum(counts), places, side="right")
    above = np.minimum(np.searchsorted(names, word), rows.size - 1)  # the last object that begins at or before
    targets = by_name[above]
    distance = names[above] - word  # wraps round, to more than any size, for what lies before all objects
    inside = distance < np.where(percpu, np.uint64(1), asked_for)[targets]
    offset = (places - (np.cumsum(counts) - counts)[holders]).astype(np.uint64) * _WORD
    inside &= ~((distance == 0) & _is_free_link(rows, holders, targets, offset))
    return holders[inside], targets[inside]


def _is_free_link(rows: Rows, holders: Index, targets: Index, offset: U64) -> npt.NDArray[np.bool_]:
    """Whether a pointer to the start of `targets` may be SLUB's link to the next free object.

    It lies in the middle (mm/slub.c, calculate_sizes; commit 3202fa62fb43) and points into the same cache.
    """
    in_cache = rows["kind"] == Kind.CACHE
    slot = np.where(in_cache, rows["bytes_req"], rows["bytes_alloc"]).astype(np.uint64)[holders]
    link: npt.NDArray[np.bool_] = (offset == slot // np.uint64(2) // _WORD * _WORD) & (slot >= _FEW_WORDS)
    for name in ("kind", "cache", "bytes_alloc"):
        link &= rows[name][holders] == rows[name][targets]
    return link


def _without_strays(kinds: Index, holders: Index, targets: Index) -> tuple[Index, Index]:
    """Leave out pointers to objects whose siblings nobody holds."""
    alike = kinds[holders] == kinds[targets]
    circle = _labels(_Holding.of(kinds, holders[~alike], targets[~alike]).circles())
    party = _labels(_Holding.of(kinds, holders[alike], targets[alike]).circles())
    outside = ~alike & (circle[holders] != circle[targets])
    reached = np.isin(party, party[targets[outside]])
    stray = _STRAY * np.bincount(kinds[reached], minlength=kinds.size) <= np.bincount(kinds, minlength=kinds.size)
    kept = ~(outside & stray[kinds[targets]])
    return holders[kept], targets[kept]


@dataclass(frozen=True, slots=True)
class _Holding:
    """Who holds whom: of each object a set of others, one bit for each; fellows are taken to hold each other.

    Integers are the fastest sets of a few thousand that Python has, and 4,096 objects can have millions of pointers.
    """

    kinds: list[int]
    holds: list[int]
    held_by: list[int]
    fellows: list[int]

    @classmethod
    def of(cls, kinds: Index, holders: Index, targets: Index) -> _Holding:
        alike = kinds[holders] == kinds[targets]
        one, other = holders[alike], targets[alike]
        holding, held = np.concatenate([holders, other]), np.concatenate([targets, one])
        return cls(
            kinds.tolist(),
            _sets(kinds.size, holding, held),
            _sets(kinds.size, held, holding),
            _sets(kinds.size, np.concatenate([one, other]), np.concatenate([other, one])),
        )

    def owners(self) -> list[int]:
        """Of each object its root: breadth first from all roots at once, that of the lowest number first."""
        sources = [circle for circle in self.circles() if not any(self.held_by[n] & ~circle for n in _members(circle))]
        roots = sorted(root for circle in sources for root in self._causes(circle))
        owners = list(range(len(self.holds)))
        unseen = (1 << len(self.holds)) - 1
        for root in roots:
            unseen ^= 1 << root
        queue = roots
        for number in queue:  # grows meanwhile
            found = self.holds[number] & unseen
            unseen ^= found
            for new in _members(found):
                owners[new] = owners[number]
                queue.append(new)
        return owners

    def circles(self) -> list[int]:
        """The sets of objects that hold each other: strongly connected components, those that hold others first.

        Kosaraju's algorithm (Sharir, Computers & Mathematics with Applications 7, 1981).
        """
        left = (1 << len(self.holds)) - 1
        circles = []
        for start in reversed(self._finished()):
            if left & (1 << start):
                circles.append(_reached(start, self.held_by, left))
                left ^= circles[-1]
        return circles

    def _finished(self) -> list[int]:
        """All objects, in the order in which a depth-first search leaves them."""
        unseen = (1 << len(self.holds)) - 1
        order = []
        for start in range(len(self.holds)):
            path = [start] if unseen & (1 << start) else []
            unseen &= ~(1 << start)
            while path:
                following = self.holds[path[-1]] & unseen
                if following:
                    following &= -following
                    unseen ^= following
                    path.append(following.bit_length() - 1)
                else:
                    order.append(path.pop())
        return order

    def _causes(self, circle: int) -> list[int]:
        """The roots among objects that hold each other: all of one kind."""
        members_of: dict[int, list[int]] = {}
        for number in _members(circle):
            members_of.setdefault(self.kinds[number], []).append(number)
        return max(members_of.values(), key=self._mean_neighbours)  # of equals the first: that of the lowest number

    def _mean_neighbours(self, numbers: list[int]) -> float:
        """How many others of other kinds each of them holds or is held by."""
        neighbours = [(self.holds[n] | self.held_by[n]) & ~self.fellows[n] for n in numbers]
        return sum(some.bit_count() for some in neighbours) / len(numbers)


def _labels(sets: list[int]) -> Index:
    """Of each object the number of the set that it is in."""
    labels = np.zeros(sum(one.bit_count() for one in sets), np.intp)
    for number, members in enumerate(sets):
        labels[list(_members(members))] = number
    return labels


def _sets(count: int, of: Index, members: Index) -> list[int]:
    matrix = np.zeros((count, count), np.bool_)
    matrix[of, members] = True
    return [int.from_bytes(row.tobytes(), "little") for row in np.packbits(matrix, axis=1, bitorder="little")]


def _members(bits: int) -> Iterator[int]:
    """Numbers of the bits set, ascending."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def _reached(start: int, steps: list[int], within: int) -> int:
    """The set of what can be reached by steps inside a set, the start included."""
    reached = waiting = 1 << start
    while waiting:
        lowest = waiting & -waiting
        found = steps[lowest.bit_length() - 1] & within & ~reached
        reached |= found
        waiting ^= lowest | found
    return reached
