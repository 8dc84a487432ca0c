# SPDX-License-Identifier: GPL-2.0-or-later
"""Boots the guest with pieces in it, and reads what its worker left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kleaktrace.core.kmemleak.report_parser import parse
from museum_lib import groups, results
from museum_lib.piece import Piece
from museum_lib.results import ROUNDS, Row

PROJECT = Path(__file__).resolve().parents[2]
TOOL = PROJECT / "tools" / "guest"
TOOLS = ("kmemleak", "memleak", "kleaktrace")

_MEMLEAK_ROUNDS = 2
"""It lists what is outstanding, after however many rounds: more would only take longer."""

_SECONDS_PER_PIECE = 300
_BOOT_S = 600
_DIED = 255
AGAIN = 75
"""The worker's status if the guest must be booted again for the rest."""

Say = Callable[[str], None]


class GuestFailed(Exception):
    """The guest cannot be booted at all; the text says why."""


def tree(configs: Sequence[Path], say: Say) -> Path:
    """The build tree of the guest's kernel, with more settings than the standard ones; built now if need be."""
    command = [str(TOOL), *_configured(configs), "--build-dir"]
    say("getting the guest's kernel (" + (", ".join(path.name for path in configs) or "standard") + ")")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise GuestFailed(f"{' '.join(command)} ended with {done.returncode}")
    return Path(done.stdout.strip())


@dataclass(frozen=True, slots=True)
class Exhibit:
    """A piece with its built modules, by name: leaking, or repaired."""

    piece: Piece
    repaired: bool
    modules: Mapping[str, Path]

    @property
    def name(self) -> str:
        """Of its directory."""
        return self.piece.name + ("-repaired" if self.repaired else "")


def run(
    exhibits: Sequence[Exhibit],
    directory: Path,
    tree: Path,
    *,
    configs: Sequence[Path] = (),
    tools: Sequence[str] = TOOLS,
    rounds: int = ROUNDS,
) -> list[Row]:
    """Boot the guest and have exhibits watched, repaired ones by kleaktrace alone; again for the rest if one kills it.

    `directory` must be empty, and is left full. rounds: under kleaktrace.
    """
    paths = [line.removesuffix(".o") for line in _lines(tree / "modules.order")]
    in_tree = {groups.kernel_name(path): tree / f"{path}.ko" for path in paths}
    for exhibit in exhibits:
        _prepare(exhibit, directory / exhibit.name, in_tree)
    used = [tool for tool in tools if tool != "memleak"]
    leaking, repaired = (_groups(exhibits, tree, repaired=repaired) for repaired in (False, True))
    plan = [planned(names, used, rounds) for names in leaking if used]
    plan += [planned(names, ["kleaktrace"], rounds) for names in repaired if "kleaktrace" in used]
    for names in work(plan, directory, configs):
        for name in names:
            (directory / name / "failure").write_text("the guest died of it or of its group, or ran out of time")
    if "memleak" in tools:  # in another boot, which has not been through all that
        work([planned(names, ["memleak"], _MEMLEAK_ROUNDS) for names in leaking], directory, configs)
    return [_row(exhibit, directory, rounds) for exhibit in exhibits]


def _groups(exhibits: Sequence[Exhibit], tree: Path, *, repaired: bool) -> list[list[str]]:
    """The names of the exhibits that are watched together."""
    names = {each.piece: each.name for each in exhibits if each.repaired is repaired}
    return [[names[piece] for piece in group] for group in groups.grouped(names, _dependencies(tree))]


def planned(names: Sequence[str], tools: Sequence[str], rounds: int) -> dict[str, Any]:
    """A group as the worker is told of it."""
    return {"names": names, "tools": tools, "rounds": rounds, "done": f"{names[0]}/done-{'-'.join(tools)}"}


def work(plan: Sequence[dict[str, Any]], directory: Path, configs: Sequence[Path]) -> list[list[str]]:
    """Boot the guest and have the plan worked off; again for the rest if a group kills it. The names of such groups."""
    killers = []
    pending = list(plan)
    while pending:
        (directory / "plan.json").write_text(json.dumps(pending))
        status = boot(directory, configs, sum(len(group["names"]) for group in pending))
        left = [group for group in pending if not (directory / group["done"]).exists()]
        if status == AGAIN and len(left) < len(pending):
            pending = left
            continue
        if left and status != _DIED:
            raise GuestFailed(f"the worker in the guest ended with {status}")
        killers += [group["names"] for group in left[:1]]
        pending = left[1:]
    return killers


def _dependencies(tree: Path) -> dict[str, frozenset[str]]:
    """What the kernel's modules load with them; tools/guest has had them indexed."""
    lists = list(tree.glob(".virtme_mods/lib/modules/*/modules.dep"))
    return groups.dependencies(_lines(lists[0])) if lists else {}


def _lines(file: Path) -> list[str]:
    return file.read_text().splitlines()


def _prepare(exhibit: Exhibit, directory: Path, in_tree: Mapping[str, Path]) -> None:
    """Copy an exhibit's modules and its trigger, and write down what is inserted for each that the trigger loads."""
    place = directory / "modules"
    place.mkdir(parents=True)
    files = dict(in_tree)
    for name, path in exhibit.modules.items():
        files[groups.kernel_name(name)] = Path(shutil.copy(path, place / f"{name}.ko"))
    (directory / "trigger.sh").write_text(exhibit.piece.trigger)
    loaded: set[str] = set()
    for asked in groups.loads(exhibit.piece.trigger):
        needs: dict[str, list[str]] = {}
        _add_needs(groups.kernel_name(asked), files, needs)
        order = groups.in_order(groups.kernel_name(asked), needs)
        (place / f"{asked}.load").write_text("".join(f"{name} {files[name]}\n" for name in order))
        loaded |= set(order)
    missing = groups.edited(exhibit.piece) - loaded
    if missing:
        raise GuestFailed(f"{exhibit.name} does not load its own {', '.join(sorted(missing))}: it tests the kernel's")


def _add_needs(module: str, files: Mapping[str, Path], needs: dict[str, list[str]]) -> None:
    if module in needs:
        return
    if module not in files:
        raise GuestFailed(f"there is no module {module}: neither the kernel's tree nor the piece has it")
    command = ["modinfo", "-F", "depends", str(files[module])]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    needs[module] = [groups.kernel_name(name) for name in said.strip().split(",") if name]
    for needed in needs[module]:
        _add_needs(needed, files, needs)


def boot(directory: Path, configs: Sequence[Path], pieces: int) -> int:
    """Boot the guest once, for so many pieces; the worker's status, or the guest's."""
    command = [str(TOOL), *_configured(configs), "--keep-files", "--rwdir", str(directory)]
    command += ["--timeout", str(_BOOT_S + _SECONDS_PER_PIECE * pieces), "--"]
    command += ["env", "PYTHONPATH=tools", ".venv/bin/python", "-m", "museum_lib.worker", str(directory)]
    return subprocess.run(command, cwd=PROJECT, env=os.environ, check=False).returncode


def _configured(configs: Sequence[Path]) -> list[str]:
    return [word for path in configs for word in ("--config", str(path))]


def _row(exhibit: Exhibit, directory: Path, rounds: int) -> Row:
    own, truth = directory / exhibit.name, exhibit.piece.truth
    row = Row(exhibit.piece, exhibit.repaired, rounds, failure=_read(own / "failure") or "")
    kmemleak, window = _read(own / "kmemleak"), _read(own / "window")
    if kmemleak is not None:
        row = replace(row, kmemleak=results.of_kmemleak(parse(kmemleak).objects, truth))
    report = _read(own / "memleak")
    if report is not None:
        row = replace(row, memleak=results.of_memleak((directory / report / "memleak.txt").read_text(), truth))
    document = _read(directory / window / "kleaktrace.json") if window else None
    if document:
        row = replace(row, kleaktrace=results.of_kleaktrace(json.loads(document), truth))
    return row


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None
