# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys that events came with before their names: what is told again may still give them one."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import numpy.typing as npt

MOST = 1 << 16
"""Keys that are remembered. More are not counted."""


class UnnamedKeys:
    """Keys that are not in `named`. Key 0 needs no name."""

    def __init__(self, named: Container[int]) -> None:
        self._named = named
        self._keys: set[int] = set()

    def note(self, keys: npt.NDArray[np.uint64]) -> None:
        """Remember those that have no name yet."""
        self._keys.update(key for key in np.unique(keys).tolist() if key and key not in self._named)
        if len(self._keys) > MOST:
            self._keys = set(list(self._keys)[:MOST])

    def count(self) -> int:
        """How many have none by now."""
        self._keys = {key for key in self._keys if key not in self._named}
        return len(self._keys)
