"""In the guest: runs pieces' triggers under each tool, and leaves what the tools said to be judged outside (`results`).

    python -m museum_lib.worker DIRECTORY

DIRECTORY is as `guest.prepare` made it.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from bench_lib import tracers

from kleaktrace.core.kmemleak.report_parser import Suspect, parse
from kleaktrace.edge.kmemleak.client import KmemleakClient
from museum_lib.results import ROUNDS

FUNCTIONS = Path(__file__).resolve().parents[2] / "tests" / "museum" / "functions.sh"

_TRIGGER_TIMEOUT_S = 240
_AGE_S = 6
"""An object must be so old to be listed (five seconds in mm/kmemleak.c)."""

_REPORT = "stacks with outstanding allocations:"
"""How memleak begins a report."""
_REPORT_TIMEOUT_S = 300

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

    def run(self) -> None:
        """One round."""
        with (self.directory / "trigger.log").open("w+") as log:
            try:
                done = subprocess.run(
                    self.command,
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

    def write(self, name: str, text: str) -> None:
        """Leave something to be read outside."""
        (self.directory / name).write_text(text)


def main() -> None:
    """Run the groups of the plan, one after the other: the guest may die of one."""
    directory = Path(sys.argv[1])
    loaded = _loaded()
    for_memleak: list[Piece] = []
    for planned in json.loads((directory / "plan.json").read_text()):
        group = [Piece(directory / name) for name in planned["names"]]
        say(f"{len(group)} pieces: {', '.join(planned['names'])}")
        _unload(loaded)
        group = _first_round(group, with_kmemleak="kmemleak" in planned["tools"])
        if "kleaktrace" in planned["tools"] and group:
            _unload(loaded)
            _kleaktrace(group)
        if "memleak" in planned["tools"]:
            for_memleak += group
        for name in planned["names"]:
            (directory / name / "done").touch()
    if for_memleak:
        _memleak(for_memleak, directory, loaded)


def say(text: str) -> None:
    """Progress."""
    print(f"museum: {text}", file=sys.stderr, flush=True)


def _first_round(group: Sequence[Piece], *, with_kmemleak: bool) -> list[Piece]:
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
            piece.write("failure", str(failure))
    if not with_kmemleak:
        return list(times)
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


def _kleaktrace(group: Sequence[Piece]) -> None:
    """Run all pieces in each round of one trace, and keep the document with the first of them."""
    say(f"{len(group)} pieces, {ROUNDS} rounds under kleaktrace")
    first = group[0]
    file, failed = first.directory / "kleaktrace.json", first.directory / _FAILED
    rounds = first.directory / "round.sh"
    rounds.write_text("".join(f"{shlex.join(piece.command)} || echo {piece.name} >> {failed}\n" for piece in group))
    command = [sys.executable, "-m", "kleaktrace", "run", "--repeat", str(ROUNDS), "--json", str(file), "--"]
    with (first.directory / "kleaktrace.txt").open("w+") as log:
        done = subprocess.run(
            [*command, "bash", str(rounds)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        )
        log.seek(0)
        said = log.read()
    names = set(failed.read_text().split()) if failed.exists() else set()
    for piece in group:
        if not file.exists() or not file.stat().st_size:
            piece.write("failure", f"kleaktrace ended with {done.returncode}: {_tail(said)}")
        elif piece.name in names:
            piece.write("failure", f"the trigger failed under kleaktrace, see {first.directory}/kleaktrace.txt")
        piece.write("window", first.name)


def _memleak(pieces: Sequence[Piece], directory: Path, loaded: set[str]) -> None:
    """One run of memleak for all, which takes long to start, and its first whole report after all rounds."""
    say(f"{len(pieces)} pieces, {ROUNDS} rounds under memleak")
    try:
        tracer = tracers.memleak()
        if tracer.missing:
            raise tracers.TracerFailed(tracer.missing)
        # All stacks, not the ten largest, every twenty seconds; it says nothing at its end.
        command = (tracer.command[0], "-T", "1000000", "-o", "1000", "20")
        with tracers.tracing(replace(tracer, command=command), directory) as running:
            for piece in pieces:
                _unload(loaded)
                for _ in range(ROUNDS):
                    piece.run()
            reports, deadline_s = running.said().count(_REPORT), time.monotonic() + _REPORT_TIMEOUT_S
            while running.said().count(_REPORT) < reports + 2:
                if time.monotonic() > deadline_s:
                    raise tracers.TracerFailed("it reports nothing")
                time.sleep(1)
            (directory / "memleak").write_text(running.said().split(_REPORT)[reports + 1])
            running.end()
    except (TriggerFailed, tracers.TracerFailed) as failure:
        say(f"memleak: {failure}")


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
