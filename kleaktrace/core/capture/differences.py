# SPDX-License-Identifier: GPL-2.0-or-later
"""Columns told as how much each number is more than the one before: small numbers, which compress well."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Unsigned = npt.NDArray[Any]
"""Unsigned integers of any width."""


def later(values: Unsigned, before: int = 0) -> Unsigned:
    """By how much each is more than the one before, the first than `before`; modulo the width, as `values` are.

    The lowest bit is the sign, so that small differences are small numbers.
    """
    kind = values.dtype
    differences = np.diff(values, prepend=kind.type(before)).view(f"i{kind.itemsize}")
    signed: Unsigned = differences << 1 ^ differences >> 8 * kind.itemsize - 1
    return signed.view(kind)


def summed(differences: Unsigned, before: int = 0) -> Unsigned:
    """Undo `later`."""
    kind = differences.dtype.type
    unsigned = (differences >> kind(1)) ^ (kind(0) - (differences & kind(1)))
    found: Unsigned = np.cumsum(unsigned, dtype=kind) + kind(before)
    return found
