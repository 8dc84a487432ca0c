# SPDX-License-Identifier: GPL-2.0-or-later
"""Types of arrays, by what their elements are."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
F64 = npt.NDArray[np.float64]

Index = npt.NDArray[np.intp]
"""Places in another array."""

Mask = npt.NDArray[np.bool_]
"""Which elements of another array are meant."""
