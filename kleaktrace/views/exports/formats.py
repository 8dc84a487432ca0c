# SPDX-License-Identifier: GPL-2.0-or-later
"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from kleaktrace.views.exports import folded, jsonl, junit, ktap, openmetrics, pprof, speedscope
from kleaktrace.views.exports.material import Material


@dataclass(frozen=True, slots=True)
class Format:
    """A format: what reads it, in words, and the function that writes it. Bytes are nothing to show on a terminal."""

    reader: str
    export: Callable[[Material], str] | Callable[[Material], bytes]
    is_binary: bool = False
    has_source_lines: bool = False


FORMATS = {
    "folded": Format("flamegraph.pl FILE > graph.svg, inferno or speedscope", folded.export),
    "speedscope": Format("https://www.speedscope.app", speedscope.export, has_source_lines=True),
    "pprof": Format("go tool pprof -http=: FILE", pprof.export, is_binary=True, has_source_lines=True),
    "jsonl": Format("jq and databases", jsonl.export, has_source_lines=True),
    "openmetrics": Format("Prometheus", openmetrics.export),
    "ktap": Format("kunit.py parse FILE", ktap.export),
    "junit": Format("CI systems", junit.export),
}
