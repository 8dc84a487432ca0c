# SPDX-License-Identifier: GPL-2.0-or-later
"""What a run on one kernel has shown, and where it is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Verdicts:
    """The lab with its module left loaded, or unloaded at the end."""

    kinds: int
    """Kinds of leak there are."""
    found: int
    """Of these, confirmed and named by a function of the lab."""
    missed: list[str]
    wrong: list[str]
    undecided: float
    """Share of the verdicts."""
    lost: int


@dataclass(frozen=True)
class SuiteTests:
    """Tests of the suite, run on that kernel: how many there are, and the names of those that failed."""

    count: int
    failed: list[str]


@dataclass(frozen=True)
class Result:
    """One row. `refused`: why nothing could be run, as kleaktrace said it; then the rest says little.

    `sources`: by kind of event, what reports it; None: nothing does. `recognised`: share of the stacks of a load that
    were not unwound. `cost`: what that load took with tracing by what it took without, emulated. `tests`: by subject.
    `refusals`: probes that would have been better, and why this kernel does not take them.
    """

    kernel: str
    release: str
    machine: str
    commit: str
    date: str
    refused: str = ""
    sources: dict[str, str | None] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)
    context: str = ""
    plain_loads: bool = False
    recognised: float = 0.0
    wrong_stacks: int = 0
    cost: float = 0.0
    verdicts: dict[str, Verdicts] = field(default_factory=dict)
    tests: dict[str, SuiteTests] = field(default_factory=dict)

    def write(self, directory: Path) -> None:
        """Keep it."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{self.kernel}.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def read(directory: Path, kernel: str) -> Result | None:
    """What is kept of a kernel; None: nothing."""
    try:
        known = json.loads((directory / f"{kernel}.json").read_text())
    except FileNotFoundError:
        return None
    known["verdicts"] = {name: Verdicts(**verdicts) for name, verdicts in known["verdicts"].items()}
    known["tests"] = {name: SuiteTests(**tests) for name, tests in known.get("tests", {}).items()}
    return Result(**known)
