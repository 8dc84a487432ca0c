# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `tools/museum`."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import click
from rich.console import Console

from museum_lib import build, guest, results, table
from museum_lib.edit import EditFailed
from museum_lib.guest import Exhibit
from museum_lib.piece import BadPiece, Piece, chosen, read_all
from museum_lib.results import Row

PROJECT = Path(__file__).resolve().parents[2]
PIECES = PROJECT / "tests" / "museum"
WIDE = PROJECT / "tools" / "wide.config"


@click.command()
@click.argument("names", nargs=-1, metavar="[PIECE]…")
@click.option("--repaired", is_flag=True, help="Run the same without the leaks, too: all must be clean.")
@click.option("--tool", "tools", type=click.Choice(guest.TOOLS), multiple=True, help="Only that one; can be repeated.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the table as JSON.")
def main(names: Sequence[str], repaired: bool, tools: Sequence[str], json_file: Path | None) -> None:
    """Bring leaks back that Linux once had, and show who finds them.

    PIECE is the name of a file of tests/museum, without .toml; all of them if none is given.
    The exit status is 1 if kleaktrace was wrong about one.
    """
    try:
        rows = _rows(_pieces(names), repaired, tools or guest.TOOLS)
    except (BadPiece, guest.GuestFailed) as failure:
        say(str(failure))
        say("to do: see above what went wrong, and mend that")
        sys.exit(3)
    table.show(Console(width=None if sys.stdout.isatty() else 160), rows)
    if json_file is not None:
        json_file.write_text(json.dumps(results.document(rows), indent=1) + "\n")
    sys.exit(0 if all(row.is_right for row in rows) else 1)


def say(text: str) -> None:
    """Progress."""
    print(f"museum: {text}", file=sys.stderr, flush=True)


def _pieces(names: Iterable[str]) -> list[Piece]:
    pieces = read_all(PIECES)
    try:
        return chosen(pieces, names)
    except KeyError as unknown:
        say(f"there is no piece {unknown}")
        say("to do: name one of " + " ".join(piece.name for piece in pieces))
        sys.exit(2)


def _rows(pieces: Sequence[Piece], repaired: bool, tools: Sequence[str]) -> list[Row]:
    tree = guest.tree([WIDE], say)
    exhibits: list[Exhibit] = []
    failed: list[Row] = []
    for piece, is_repaired in [(each, False) for each in pieces] + [(each, True) for each in pieces if repaired]:
        try:
            modules = build.modules(tree, piece, edited=not is_repaired, say=say)
            exhibits.append(Exhibit(piece, is_repaired, modules))
        except (build.BuildFailed, EditFailed) as failure:
            say(f"{piece.name}: {failure}")
            failed.append(Row(piece, is_repaired, failure=str(failure)))
    (PROJECT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="museum-", dir=PROJECT / "build"))
    rows = guest.run(exhibits, directory, tree, configs=[WIDE], tools=tools)
    if all(row.is_right for row in rows):
        shutil.rmtree(directory)
    else:
        say(f"what the tools said is in {directory}")
    return failed + rows


if __name__ == "__main__":
    main(prog_name="tools/museum")
