# SPDX-License-Identifier: GPL-2.0-or-later
"""In the guest: runs pieces' triggers under each tool, and leaves what the tools said to be judged outside (`results`).

    python -m museum_lib.worker DIRECTORY

DIRECTORY is as `guest.prepare` made it.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_lib import tracers

from kleaktrace.core.kmemleak.report_parser import Suspect, parse
from kleaktrace.edge.kmemleak.client import KmemleakClient
from museum_lib.groups import kernel_name
from museum_lib.guest import AGAIN

FUNCTIONS = Path(__file__).resolve().parents[2] / "tests" / "museum" / "functions.sh"

_TRIGGER_TIMEOUT_S = 240
_AGE_S = 6
"""An object must be so old to be listed (five seconds in mm/kmemleak.c)."""

_REPORT = "stacks with outstanding allocations:"
"""How memleak begins a report."""
_REPORT_TIMEOUT_S = 900
_INTERVAL_S = 10

FAILURE = "failure"
"""A file that says why a piece has no result."""

_FAILED = "failed"
"""A file with the names of pieces whose triggers failed under kleaktrace."""


class TriggerFailed(Exception):
    """A trigger that did not do what it should; the text says what it said."""


class Piece:
    """A piece's directory in the guest."""

    def __init__(self, directory: Path) -> None:
        self.name = directory.name
        self.directory = directory
        self.command = ["env", f"MODULES={directory / 'modules'}", "bash", "-eu", str(FUNCTIONS)]
        self.command.append(str(directory / "trigger.sh"))

    def run(self, *, unloads: bool = True) -> None:
        """One round; without `unloads`, modules stay in the end."""
        with (self.directory / "trigger.log").open("w+") as log:
            try:
                done = subprocess.run(
                    self.command,
                    env=None if unloads else os.environ | {"KEEP_LOADED": "1"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    timeout=_TRIGGER_TIMEOUT_S,
                    check=False,
                )
            except subprocess.TimeoutExpired as late:
                raise TriggerFailed("the trigger does not end") from late
            if done.returncode:
                log.seek(0)
                raise TriggerFailed(f"the trigger ended with {done.returncode}: {_tail(log.read())}")

    def own_modules(self) -> set[str]:
        """The names of the modules that it has builds of its own of."""
        return {kernel_name(file.name) for file in (self.directory / "modules").glob("*.ko")}

    def write(self, name: str, text: str) -> None:
        """Leave something to be read outside."""
        (self.directory / name).write_text(text)


def main() -> None:
    """Run the groups of the plan, one after the other: the guest may die of one."""
    directory = Path(sys.argv[1])
    loaded = _loaded()
    for planned in json.loads((directory / "plan.json").read_text()):
        group = [Piece(directory / name) for name in planned["names"]]
        say(f"{len(group)} pieces: {', '.join(planned['names'])}")
        _unload(loaded)
        if _loaded() & set().union(*(piece.own_modules() for piece in group)):
            say("modules of theirs are still loaded: booting again")
            sys.exit(AGAIN)
        if "memleak" in planned["tools"]:
            _memleak([piece for piece in group if not (piece.directory / FAILURE).exists()], planned["rounds"])
        if "kmemleak" in planned["tools"]:
            group = _kmemleak(group)
            _unload(loaded)
        if "kleaktrace" in planned["tools"] and group:
            _kleaktrace(group, planned["rounds"])
        (directory / planned["done"]).touch()


def say(text: str) -> None:
    """Progress."""
    print(f"museum: {text}", file=sys.stderr, flush=True)


def _kmemleak(group: Sequence[Piece]) -> list[Piece]:
    """Run each piece once, and keep what kmemleak lists newly after two scans; the pieces whose triggers work."""
    client = KmemleakClient()
    before = {_identity(suspect) for suspect in client.read().objects}
    times: dict[Piece, tuple[int, int]] = {}
    for piece in group:
        begun = _jiffies()
        try:
            piece.run()
            times[piece] = begun, _jiffies()
        except TriggerFailed as failure:
            say(f"{piece.name}: {failure}")
            piece.write(FAILURE, str(failure))
    for _ in range(2):
        time.sleep(_AGE_S)
        client.scan()
    listed = [(suspect, block) for block in _blocks(client.read_text()) for suspect in parse(block).objects]
    found = [(suspect, block) for suspect, block in listed if _identity(suspect) not in before]
    for piece, (begun, ended) in times.items():
        piece.write("kmemleak", "".join(block for suspect, block in found if begun <= suspect.jiffies <= ended))
    return list(times)


def _identity(suspect: Suspect) -> tuple[int, int]:
    return suspect.address, suspect.jiffies


def _blocks(text: str) -> list[str]:
    begin = "unreferenced object"
    return [begin + block for block in text.split(begin)[1:]]


def _jiffies() -> int:
    """The kernel's clock, as kmemleak prints it (kernel/time/timer_list.c)."""
    with Path("/proc/timer_list").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("jiffies:"))


def _kleaktrace(group: Sequence[Piece], rounds: int) -> None:
    """Run all pieces in each round of one trace, and keep the document with the first of them."""
    say(f"{len(group)} pieces, {rounds} rounds under kleaktrace")
    first = group[0]
    file, failed = first.directory / "kleaktrace.json", first.directory / _FAILED
    script = first.directory / "round.sh"
    script.write_text("".join(f"{shlex.join(piece.command)} || echo {piece.name} >> {failed}\n" for piece in group))
    command = [sys.executable, "-m", "kleaktrace", "run", "--repeat", str(rounds), "--json", str(file), "--"]
    with (first.directory / "kleaktrace.txt").open("w+") as log:
        done = subprocess.run(
            [*command, "bash", str(script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
        log.seek(0)
        said = log.read()
    names = set(failed.read_text().split()) if failed.exists() else set()
    for piece in group:
        if not file.exists() or not file.stat().st_size:
            piece.write(FAILURE, f"kleaktrace ended with {done.returncode}: {_tail(said)}")
        elif piece.name in names:
            piece.write(FAILURE, f"the trigger failed under kleaktrace, see {first.directory}/kleaktrace.txt")
        piece.write("window", first.name)


def _memleak(group: Sequence[Piece], rounds: int) -> None:
    """Run all rounds of a group under memleak, and keep the first report that it makes after that.

    It is stopped meanwhile, as its programs work without it: a report takes it minutes of a slow machine, and with the
    first it reads the names of functions, once. The last round leaves modules loaded, so that theirs are among them.
    """
    if not group:
        return
    say(f"{len(group)} pieces, {rounds} rounds under memleak")
    tracer, first = tracers.memleak(), group[0].directory
    # All stacks, not the ten largest, and nothing that may be about to be freed; one report.
    command = (tracer.command[0], "-T", "1000000", "-o", "1000", str(_INTERVAL_S), "1")
    try:
        if tracer.missing:
            raise tracers.TracerFailed(tracer.missing)
        with tracers.tracing(replace(tracer, command=command), first) as running:
            os.kill(running.pid, signal.SIGSTOP)
            ran = list(group)
            for number in range(rounds):
                ran = [piece for piece in ran if _runs(piece, unloads=number < rounds - 1)]
            time.sleep(2)
            os.kill(running.pid, signal.SIGCONT)
            running.wait_for_end(_REPORT_TIMEOUT_S)
            head, begin, report = running.said().partition(_REPORT)
            if not begin:
                raise tracers.TracerFailed(f"it reports nothing: {_tail(head)}")
            (first / "memleak.txt").write_text(report)
    except tracers.TracerFailed as failure:
        say(f"memleak: {failure}")
        return
    for piece in ran:
        piece.write("memleak", first.name)


def _runs(piece: Piece, *, unloads: bool) -> bool:
    """Run a piece's trigger under memleak; whether it worked."""
    try:
        piece.run(unloads=unloads)
    except TriggerFailed as failure:
        say(f"memleak: {piece.name}: {failure}")
        return False
    return True


def _loaded() -> set[str]:
    return {line.split()[0] for line in Path("/proc/modules").read_text().splitlines()}


def _unload(loaded: set[str]) -> None:
    """Unload what pieces have left loaded, as the next ones may bring their own builds of it."""
    while True:
        lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
        unused = [name for name, _, users, *_ in lines if users == "0" and name not in loaded]
        gone = [subprocess.run(["rmmod", name], capture_output=True, check=False).returncode for name in unused]
        if 0 not in gone:
            return


def _tail(said: str) -> str:
    return " / ".join(said.strip().splitlines()[-6:]) or "(no output)"


if __name__ == "__main__":
    main()
