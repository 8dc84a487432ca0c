"""Keys for the places that free memory: modules go, and others take their places and addresses."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from kleaktrace.core.symbols.symbol_table import Frame, Symbols

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

    def keys(self, addresses: U64, times_ns: U64) -> U64:
        """The keys of return addresses into what freed at these times (ns, CLOCK_MONOTONIC)."""
        places = np.flatnonzero(self._symbols.outside_kernel(addresses))
        if not places.size:
            return addresses
        keys, times = addresses.copy(), times_ns[places]
        edges = self._symbols.loads_after(int(times.min()))
        eras = np.searchsorted(edges, times, side="right")
        # Few are different, and there may be very many: this is faster than to sort them.
        while places.size:
            address, era = int(addresses[places[0]]), int(eras[0])
            same = (addresses[places] == address) & (eras == era)
            keys[places[same]] = self._key(address, int(times[same][0]))
            places, eras, times = places[~same], eras[~same], times[~same]
        return keys

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
