# SPDX-License-Identifier: GPL-2.0-or-later
"""KTAP version 1 (Documentation/dev-tools/ktap.rst), as kunit.py and kselftest's runners read it.

One test, kleaktrace, with a subtest for each case. Its evidence stands before its result, as diagnostics.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from kleaktrace.views.exports.cases import SUITE, Case, Result, about, cases
from kleaktrace.views.exports.material import Material

_VERSION = "KTAP version 1"


def export(material: Material) -> str:
    """Return the lines."""
    found = cases(material.report)
    inner = [_VERSION, f"# Subtest: {SUITE}", f"1..{len(found)}", *_diagnostics(about(material.report))]
    for number, case in enumerate(found, start=1):
        inner += [*_diagnostics(case.evidence), _line(number, f"{case.area}: {case.name}", case.result, case.reason)]
    lines = [_VERSION, "1..1", *(f"  {line}" for line in inner), _line(1, SUITE, _whole(found))]
    return "\n".join(lines) + "\n"


def _diagnostics(lines: Iterable[str]) -> Iterator[str]:
    """Set off by one blank more than a line with a meaning, such as `# Subtest: `, would be."""
    return (f"#  {line}" for line in lines)


def _line(number: int, name: str, result: Result, reason: str = "") -> str:
    """A test case result line; of its parts, `#` separates the last, so the name has none."""
    ok = "not ok" if result is Result.FAILED else "ok"
    directive = "SKIP " if result is Result.SKIPPED else ""
    told = f" # {directive}{reason}".rstrip() if directive or reason else ""
    return f"{ok} {number} {name.replace('#', '=')}{told}"


def _whole(found: Sequence[Case]) -> Result:
    """It fails if one of them does."""
    results = {case.result for case in found}
    return next((one for one in (Result.FAILED, Result.SKIPPED) if one in results), Result.PASSED)
