# SPDX-License-Identifier: GPL-2.0-or-later
"""The loads of load.c: compiled here, run for a while, and how long a turn of them took."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("load.c")
NAME = "kt-bench"
"""The comm of every load, and of the programs it executes."""

LOADS = ("sockets", "files", "forks", "held", "flat")
WARM_UP_S = 0.2
"""Not counted: first calls fault pages in, and tracers see each stack for the first time."""


@dataclass(frozen=True, slots=True)
class Turns:
    """What a load did: its turns, and the time of all of them in ns."""

    turns: int
    wall_ns: int
    cpu_ns: int

    @property
    def cpu_ns_each(self) -> float:
        """Processor time of a turn, in the load and in interrupts on top of it."""
        return self.cpu_ns / self.turns


@dataclass(frozen=True, slots=True)
class Loads:
    """The compiled loads, in a directory where they may work."""

    program: Path

    @classmethod
    def compiled(cls, directory: Path) -> Loads:
        """Compile them into a directory."""
        program = directory / NAME
        subprocess.run(["gcc", "-O2", "-Wall", "-o", str(program), str(SOURCE)], check=True)
        return cls(program)

    def start(self, kind: str, seconds: float, warm_up_s: float = WARM_UP_S) -> subprocess.Popen[str]:
        """Start one for so long, after its warm-up."""
        return subprocess.Popen(
            [str(self.program), kind, str(seconds), str(warm_up_s)],
            cwd=self.program.parent,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, kind: str, seconds: float, warm_up_s: float = WARM_UP_S) -> Turns:
        """Run one to its end."""
        return finished(self.start(kind, seconds, warm_up_s))


def finished(process: subprocess.Popen[str]) -> Turns:
    """Wait for a load, and read what it did. Raises `CalledProcessError` if it failed."""
    said, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, process.args, said)
    return Turns(**json.loads(said))
