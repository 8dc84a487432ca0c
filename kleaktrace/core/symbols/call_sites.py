# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys for the places that free memory: modules go, and others take their places and addresses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from kleaktrace.core.symbols.symbol_table import Frame, Symbols

Index = npt.NDArray[np.intp]
U64 = npt.NDArray[np.uint64]

_MOST = 1 << 16
"""Places in modules with keys of their own: no kernel has code so low. What is more goes by its address."""


class CallSites:
    """A place in a module goes by a key that is its alone, and the same wherever the module is loaded next; any other
    place by its address."""

    def __init__(self, symbols: Symbols) -> None:
        self._symbols = symbols
        self._frames: list[Frame] = []  # by key, less one
        self._keys: dict[tuple[object, ...], int] = {}

    @classmethod
    def restored(cls, symbols: Symbols, frames: Sequence[Frame]) -> CallSites:
        """Those whose keys, 1, 2, 3, …, stand for these frames."""
        made = cls(symbols)
        made._frames = list(frames)
        return made

    def since(self, count: int) -> list[Frame]:
        """What the keys above `count` stand for."""
        return self._frames[count:]

    def keys(self, addresses: U64, times_ns: U64) -> U64:
        """The keys of return addresses into what freed at these times (ns, CLOCK_MONOTONIC)."""
        places = np.flatnonzero(self._symbols.outside_kernel(addresses))
        if not places.size:
            return addresses
        keys = addresses.copy()
        for events in self._between_loads(places, times_ns):
            left, time_ns = events, int(times_ns[events[0]])
            # Few places are different, and there may be very many events: this is faster than to sort them.
            while left.size:
                address = addresses[left[0]]
                same = addresses[left] == address
                keys[left[same]] = self._key(int(address), time_ns)
                left = left[~same]
        return keys

    def _between_loads(self, events: Index, times_ns: U64) -> list[Index]:
        """The same events, apart where a module was loaded between them."""
        times = times_ns[events]
        edges = self._symbols.loads_after(int(times.min()))
        if not edges.size:
            return [events]
        eras = np.searchsorted(edges, times, side="right")
        return [events[eras == era] for era in np.unique(eras)]

    def frame(self, key: int) -> Frame:
        """What a key stands for; of 0, which is no place, the frame has no name."""
        return self._frames[key - 1] if 0 < key <= len(self._frames) else self._symbols.frame(key)

    def _key(self, address: int, time_ns: int) -> int:
        if not address:
            return 0
        frame = self._symbols.frame(address, time_ns)
        names = (frame.name, frame.offset, frame.size, frame.module) if frame.name else (address,)
        if names not in self._keys:
            if len(self._frames) >= _MOST:
                return address
            self._frames.append(frame)
            self._keys[names] = len(self._frames)
        return self._keys[names]
