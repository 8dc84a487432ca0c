# SPDX-License-Identifier: GPL-2.0-or-later
"""Unpacks the tables of an HTML report, as unpack.js does."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np


def unpacked(text: str) -> dict[str, Any]:
    content = zlib.decompress(base64.b64decode(text))
    end = 4 + int.from_bytes(content[:4], "little")
    header = json.loads(content[4:end])
    for name, count, width in header.pop("columns"):
        planes = np.frombuffer(content, np.uint8, count * width, end).reshape(width, count)
        header[name] = [int.from_bytes(bytes(column), "little") for column in planes.T] if width else [0] * count
        end += count * width
    assert end == len(content)
    return header
