# SPDX-License-Identifier: GPL-2.0-or-later
"""speedscope's own file format (https://www.speedscope.app/file-format-schema.json).

Two profiles over the same frames: what is outstanding, and all that was allocated in the window, both in bytes. Their
samples begin at the root.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from kleaktrace import __version__
from kleaktrace.core.grouping.group_labels import NO_STACK_LABEL
from kleaktrace.core.source_lines.source_lines import SourceLines
from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.core.tables.stack_rows import StackRow
from kleaktrace.views.exports.material import Material, module_of, named_frames, root_first

_SCHEMA = "https://www.speedscope.app/file-format-schema.json"


def export(material: Material) -> str:
    """Return one JSON document, on one line."""
    frames = _Frames(material.report.source_lines)
    samples = [(frames.of(row), row) for row in material.rows]
    outstanding = [(sample, row.outstanding_bytes) for sample, row in samples]
    allocated = [(sample, row.allocated_bytes) for sample, row in samples]
    kernel = material.report.kernel
    document = {
        "$schema": _SCHEMA,
        "name": f"kernel memory, {kernel.release} {kernel.arch}",
        "exporter": f"kleaktrace {__version__}",
        "activeProfileIndex": 0,
        "shared": {"frames": frames.known},
        "profiles": [_profile("outstanding", outstanding), _profile("allocated", allocated)],
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


class _Frames:
    """The frames of all samples, each once."""

    def __init__(self, sources: SourceLines) -> None:
        self.known: list[dict[str, str]] = []
        self._sources = sources
        self._places: dict[tuple[str, str], int] = {}

    def of(self, row: StackRow) -> list[int]:
        """The places of a stack's frames, the root's first."""
        frames = [one for frame in root_first(row.stack) for one in self._of_frame(frame)]
        return [self._place(*frame) for frame in frames or [(NO_STACK_LABEL, "")]]

    def _of_frame(self, frame: Frame) -> Iterator[tuple[str, str]]:
        """Inlined functions as frames of their own, behind what they are in. Where no file is known, the module is.

        Without the lines, so that callers join.
        """
        for name, file, _ in reversed(named_frames(frame, self._sources)):
            yield name, file or module_of(frame)

    def _place(self, name: str, file: str) -> int:
        if (name, file) not in self._places:
            self._places[name, file] = len(self.known)
            self.known.append({"name": name, "file": file} if file else {"name": name})
        return self._places[name, file]


def _profile(name: str, samples: list[tuple[list[int], int]]) -> dict[str, Any]:
    weighty = [(sample, weight) for sample, weight in samples if weight]
    return {
        "type": "sampled",
        "name": name,
        "unit": "bytes",
        "startValue": 0,
        "endValue": sum(weight for _, weight in weighty),
        "samples": [sample for sample, _ in weighty],
        "weights": [weight for _, weight in weighty],
    }
