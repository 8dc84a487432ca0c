# SPDX-License-Identifier: GPL-2.0-or-later
"""Keys made to collide in the hash tables."""

from __future__ import annotations

import numpy as np

from kleaktrace.core.arrays import hash_index


def unspread(hashes: np.ndarray) -> np.ndarray:
    """Keys with the given hashes: the inverse of `spread`."""
    mixed = hashes * np.uint64(pow(int(hash_index._GOLDEN), -1, 2**64))
    return mixed ^ (mixed >> np.uint64(29)) ^ (mixed >> np.uint64(58))
