# SPDX-License-Identifier: GPL-2.0-or-later
"""Tables of numbers and strings as text that a browser unpacks fast: what `unpack.js` reads.

The text is base64 of a zlib stream of: the length of the header (4 bytes, little endian), the header (JSON, UTF-8) and
the columns, one after the other. The header's `columns` says of each column its name, how many numbers and how many
bytes of each there are. A column is all lowest bytes, then all second ones, and so on: numbers that are alike in their
high bytes compress to almost nothing.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from kleaktrace.core.arrays.types import F64

_LEVEL = 6


def packed(header: Mapping[str, Any], columns: Mapping[str, npt.ArrayLike]) -> str:
    """Pack whole numbers from 0 to 2**53 - 1, by name, and whatever else JSON can say."""
    described, parts = [], []
    for name, values in columns.items():
        numbers = np.ascontiguousarray(values, "<u8").reshape(-1)
        width = (int(numbers.max(initial=0)).bit_length() + 7) // 8
        described.append([name, numbers.size, width])
        parts.append(numbers.view(np.uint8).reshape(-1, 8)[:, :width].T.tobytes())
    head = json.dumps({**header, "columns": described}, separators=(",", ":")).encode()
    return base64.b64encode(zlib.compress(b"".join([len(head).to_bytes(4, "little"), head, *parts]), _LEVEL)).decode()


def differences(rows: F64) -> npt.NDArray[np.uint64]:
    """Each row as its first number and then the differences, with their signs in the lowest bit."""
    whole = np.rint(rows).astype(np.int64)
    steps = np.diff(whole, axis=-1, prepend=0)
    return (steps << 1 ^ steps >> 63).view(np.uint64)
