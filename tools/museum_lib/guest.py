"""Boots the guest with pieces in it, and reads what its worker left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kleaktrace.core.kmemleak_text import parse
from museum_lib import groups, results
from museum_lib.piece import Piece
from museum_lib.results import Row

PROJECT = Path(__file__).resolve().parents[2]
TOOL = PROJECT / "tools" / "guest"
TOOLS = ("kmemleak", "memleak", "kleaktrace")

_SECONDS_PER_PIECE = 300
_BOOT_S = 600
_DIED = 255

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


def run(
    pieces: Mapping[str, tuple[Piece, Mapping[str, Path]]],
    directory: Path,
    tree: Path,
    *,
    configs: Sequence[Path],
    tools: Sequence[str],
    repaired: bool,
) -> list[Row]:
    """Boot the guest and have the pieces, given with their built modules, watched; again for the rest if one kills it.

    `directory` must be empty, below the project, and is left full.
    """
    pending = groups.grouped((piece for piece, _ in pieces.values()), _dependencies(tree))
    for name, (piece, modules) in pieces.items():
        _prepare(directory / name, piece, modules)
    while pending:
        plan = {"groups": [[piece.name for piece in group] for group in pending], "tools": list(tools)}
        (directory / "plan.json").write_text(json.dumps(plan))
        status = _boot(directory, configs, sum(map(len, pending)))
        left = [group for group in pending if not all((directory / piece.name / "done").exists() for piece in group)]
        if left and status != _DIED:
            raise GuestFailed(f"the worker in the guest ended with {status}")
        for piece in left[0] if left else ():
            (directory / piece.name / "failure").write_text("the guest died of it or of its group, or ran out of time")
        pending = left[1:]
    memleak = _read(directory / "memleak")
    return [_row(piece, directory, memleak, repaired=repaired) for piece, _ in pieces.values()]


def _dependencies(tree: Path) -> dict[str, frozenset[str]]:
    """What the kernel's modules load with them; tools/guest has had them indexed."""
    lists = list(tree.glob(".virtme_mods/lib/modules/*/modules.dep"))
    return groups.dependencies(lists[0].read_text().splitlines()) if lists else {}


def _prepare(directory: Path, piece: Piece, modules: Mapping[str, Path]) -> None:
    (directory / "modules").mkdir(parents=True)
    for name, path in modules.items():
        shutil.copy(path, directory / "modules" / f"{name}.ko")
    (directory / "trigger.sh").write_text(piece.trigger)


def _boot(directory: Path, configs: Sequence[Path], pieces: int) -> int:
    command = [str(TOOL), *_configured(configs), "--rwdir", str(directory)]
    command += ["--timeout", str(_BOOT_S + _SECONDS_PER_PIECE * pieces), "--"]
    command += ["env", "PYTHONPATH=tools", ".venv/bin/python", "-m", "museum_lib.worker", str(directory)]
    return subprocess.run(command, cwd=PROJECT, env=os.environ, check=False).returncode


def _configured(configs: Sequence[Path]) -> list[str]:
    return [word for path in configs for word in ("--config", str(path))]


def _row(piece: Piece, directory: Path, memleak: str | None, *, repaired: bool) -> Row:
    own = directory / piece.name
    row = Row(piece, repaired, failure=_read(own / "failure") or "")
    kmemleak, window = _read(own / "kmemleak"), _read(own / "window")
    if kmemleak is not None:
        row = replace(row, kmemleak=results.of_kmemleak(parse(kmemleak).objects, piece.truth))
    if memleak is not None and not row.failure:
        row = replace(row, memleak=results.of_memleak(memleak, piece.truth))
    document = _read(directory / window / "kleaktrace.json") if window else None
    if document:
        row = replace(row, kleaktrace=results.of_kleaktrace(json.loads(document), piece.truth))
    return row


def _read(file: Path) -> str | None:
    return file.read_text() if file.exists() else None
