# SPDX-License-Identifier: GPL-2.0-or-later
"""The first bytes of a leaked object, read for people: its names, its functions, what state it was left in.

Words come complemented, so that no plain address lies in our memory (`records.hide`), and constants are complemented
to compare with them. No pointer is ever put in words. Little-endian, as x86-64 and arm64 are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from errno import errorcode

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import U32, U64
from kleaktrace.core.events.records import hide

FunctionAt = Callable[[int], "str | None"]
"""The name of the function that begins exactly at an address."""

_MOST_FACTS = 6
_MOST_OF_A_KIND = 3
_LEAST_TEXT, _MOST_TEXT = 4, 60
_POINTER_BITS = 56
"""Kernel addresses begin with a byte ff, whatever the depth of page tables."""

_ZERO = np.uint64(hide(0))
_POISON = {0x6B: (0x6B6B6B6B6B6B6B6B, 0xA56B6B6B6B6B6B6B), 0x5A: (0x5A5A5A5A5A5A5A5A,)}
"""SLUB's, include/linux/poison.h: POISON_FREE, POISON_END at an object's end, POISON_INUSE."""
_LIST_POISON = (0xDEAD000000000100, 0xDEAD000000000122)
"""include/linux/poison.h: LIST_POISON1, LIST_POISON2; the upper half is CONFIG_ILLEGAL_POINTER_VALUE."""
_SPINLOCK_MAGIC = 0xDEAD4EAD
"""Of struct raw_spinlock (include/linux/spinlock_types_raw.h) with DEBUG_SPINLOCK: the lock, this, the owner's CPU."""
_ALL_32 = 0xFFFFFFFF
_NO_CPU = _ALL_32

_ERRORS = {**errorcode, 512: "ERESTARTSYS", 517: "EPROBE_DEFER", 524: "ENOTSUPP"}
"""The last ones are the kernel's own, include/linux/errno.h."""
_FIRST_ERROR = 2  # -1 is more often a mask of all bits than EPERM

_MOST_REFERENCES = 64
_COUNTS_LOOKED_AT = 4


def facts(words: U64, function_at: FunctionAt, *, of_slab: bool = True) -> tuple[str, ...]:
    """Say what the words of an object tell, the most telling first; at most six short strings, none if empty.

    `function_at` gets the few words that may be kernel addresses, plain, one at a time. of_slab: a slab may have
    poisoned it.
    """
    if not words.size:
        return ()
    if (words == _ZERO).all():
        return (f"nothing but zeros in {words.size * 8:,} bytes",)
    kinds = (
        _texts(words),
        _functions(words, function_at),
        _spinlocks(words),
        _off_list(words),
        _errors(words),
        _poison(words) if of_slab else (),
        _references(words),
    )
    return tuple(fact for kind in kinds for fact in kind)[:_MOST_FACTS]


def _texts(words: U64) -> Iterator[str]:
    """ASCII that ends with a NUL or with the object, the longest."""
    found = [(at, text) for at, text in _runs(words) if _is_text(text)]
    longest = sorted(sorted(found, key=lambda one: -len(one[1]))[:_MOST_OF_A_KIND])
    if longest:
        shown = (f'"{_cut(text)}" at byte {at}' for at, text in longest)
        yield f"text {', '.join(shown)}"


def _runs(words: U64) -> Iterator[tuple[int, str]]:
    """Where ASCII begins, and what it is."""
    no_text = _may_be_pointer(words) | _is_poison(words)
    hidden = np.where(no_text, np.uint64(0), words).view(np.uint8)  # bytes ff
    printable = np.concatenate([[False], (hidden >= 0xFF ^ 0x7E) & (hidden <= 0xFF ^ 0x20), [False]])
    starts, ends = np.flatnonzero(printable[1:] != printable[:-1]).reshape(-1, 2).T
    ended = np.append(hidden, 0xFF)[ends] == 0xFF
    for start, end in zip(starts[ended].tolist(), ends[ended].tolist(), strict=True):
        yield start, (~hidden[start:end]).tobytes().decode("ascii")


def _is_text(text: str) -> bool:
    """Whether it looks like words or names, not like numbers that happen to be printable."""
    readable = sum(character.isalnum() for character in text)
    return len(text) >= _LEAST_TEXT and len(set(text)) > 1 and 2 * readable >= len(text)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_TEXT else text[: _MOST_TEXT - 1] + "…"


def _functions(words: U64, function_at: FunctionAt) -> Iterator[str]:
    found: dict[str, int] = {}
    places = _may_be_pointer(words).nonzero()[0]
    for place, word in zip(places.tolist(), words[places].tolist(), strict=True):
        name = function_at(hide(word))
        if name is not None:
            found.setdefault(name, place * 8)
    if found:
        shown = [f"{name} (byte {at})" for name, at in found.items()]
        more = [f"{len(shown) - _MOST_OF_A_KIND} more"] if len(shown) > _MOST_OF_A_KIND else []
        yield f"points to {', '.join(shown[:_MOST_OF_A_KIND] + more)}"


def _spinlocks(words: U64) -> Iterator[str]:
    """Locks that somebody holds, if the kernel has them checked."""
    halves = _halves(words)
    magic = (halves[1:-1] == _SPINLOCK_MAGIC ^ _ALL_32).nonzero()[0] + 1
    locks = [(int(at) - 1, int(halves[at - 1]) ^ _ALL_32, int(halves[at + 1]) ^ _ALL_32) for at in magic]
    held = [(at, cpu) for at, lock, cpu in locks if lock and cpu != _NO_CPU]
    for at, cpu in held[:_MOST_OF_A_KIND]:
        yield f"spinlock at byte {at * 4} held by CPU {cpu}"


def _off_list(words: U64) -> Iterator[str]:
    """Members of lists that were taken off: list_del and its kin leave poison."""
    for at in _places(words, _LIST_POISON)[:1]:
        yield f"was taken off a list (list poison at byte {at})"


def _errors(words: U64) -> Iterator[str]:
    """Error pointers: ERR_PTR(-n) is the complement of n - 1 (include/linux/err.h)."""
    numbers = [(at * 8, word + 1) for at, word in enumerate(words.tolist()) if _FIRST_ERROR - 1 <= word < max(_ERRORS)]
    for at, number in [one for one in numbers if one[1] in _ERRORS][:_MOST_OF_A_KIND]:
        yield f"maybe an error pointer at byte {at}: -{_ERRORS[number]}"


def _poison(words: U64) -> Iterator[str]:
    for byte, patterns in _POISON.items():
        count = len(_places(words, patterns))
        if count:
            yield f"maybe never written: {count} of {words.size} words are SLUB's poison {byte:x}"


def _references(words: U64) -> Iterator[str]:
    """A likely reference count: the one small number at the start of what has pointers, as structures have."""
    if not _may_be_pointer(words).any():
        return
    halves = _halves(words)[:_COUNTS_LOOKED_AT].tolist()
    small = [(at * 4, half ^ _ALL_32) for at, half in enumerate(halves) if 0 < half ^ _ALL_32 <= _MOST_REFERENCES]
    if len(small) == 1:
        yield f"maybe a reference count of {small[0][1]} at byte {small[0][0]}"


def _may_be_pointer(words: U64) -> npt.NDArray[np.bool_]:
    """Whether these may be kernel addresses; all ones and error pointers are not."""
    pointer: npt.NDArray[np.bool_] = (words >> np.uint64(_POINTER_BITS) == 0) & (words > max(_ERRORS))
    return pointer


def _is_poison(words: U64) -> npt.NDArray[np.bool_]:
    return np.isin(words, [np.uint64(hide(word)) for words_of in _POISON.values() for word in words_of])


def _places(words: U64, values: tuple[int, ...]) -> list[int]:
    """Offsets in bytes of these (plain) values."""
    hidden = [np.uint64(hide(value)) for value in values]
    return [int(place) * 8 for place in np.isin(words, hidden).nonzero()[0]]


def _halves(words: U64) -> U32:
    """The words as 32-bit numbers, in order of address, complemented as they are."""
    return np.ascontiguousarray(words).view(np.uint32)
