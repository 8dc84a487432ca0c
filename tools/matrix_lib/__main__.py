# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `tools/matrix`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

import click

from matrix_lib import results, table
from matrix_lib.kernels import KERNELS, Kernel
from matrix_lib.measure import PROJECT, KernelFailed, measure

KEPT = PROJECT / "docs" / "kernels"
PAGE = PROJECT / "docs" / "kernels.md"


@click.command()
@click.argument("names", nargs=-1, metavar="[KERNEL]…")
@click.option("--again", is_flag=True, help="Also those that have run already.")
@click.option("--write", is_flag=True, help="Write docs/kernels.md.")
def main(names: Sequence[str], again: bool, write: bool) -> None:
    """Build each kernel of the matrix that has not run yet, run it in the guest, and print what works on which.

    KERNEL is the name of a row; all of them if none is given. What has run is kept in docs/kernels, so it can be
    interrupted and gone on with, and rows may come from several machines. The exit status is 1 if a verdict was wrong.
    """
    for kernel in _chosen(names):
        if not again and results.read(KEPT, kernel.name) is not None:
            continue
        try:
            measure(kernel, say).write(KEPT)
        except (KernelFailed, subprocess.TimeoutExpired) as failure:
            say(f"{kernel.name}: {failure}")
    known = [results.read(KEPT, kernel.name) for kernel in KERNELS]
    page = table.document(KERNELS, known)
    print(page)
    if write:
        PAGE.write_text(page)
    sys.exit(1 if any(verdicts.wrong for one in known if one for verdicts in one.verdicts.values()) else 0)


def say(text: str) -> None:
    """Progress."""
    print(f"matrix: {text}", file=sys.stderr, flush=True)


def _chosen(names: Sequence[str]) -> list[Kernel]:
    unknown = set(names) - {kernel.name for kernel in KERNELS}
    if unknown:
        say(f"there is no kernel {', '.join(sorted(unknown))}")
        say("to do: name one of " + " ".join(kernel.name for kernel in KERNELS))
        sys.exit(2)
    return [kernel for kernel in KERNELS if not names or kernel.name in names]


if __name__ == "__main__":
    main()
