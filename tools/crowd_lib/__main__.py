# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line of `tools/crowd`."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from museum_lib import guest
from rich.console import Console
from rich.table import Table

from crowd_lib.casualties import without_culprit
from crowd_lib.modules import EXCLUDED, grouped, modules_of
from crowd_lib.worker import ROUNDS

PROJECT = Path(__file__).resolve().parents[2]
WIDE = PROJECT / "tools" / "wide.config"
_SECONDS_PER_GROUP = 900
_DIED = 255


@dataclass(frozen=True, slots=True)
class Finding:
    """A confirmed leak: whose, who asked, how much, by what evidence, and how many objects each round left."""

    module: str
    function: str
    requester: str
    objects: int
    bytes: int
    sources: str
    per_round: float
    stack: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """What became of one trace. failed: modules that did not come or go, or that the guest died of, with the reason."""

    modules: tuple[str, ...]
    verdict: str
    allocations: int
    lost: int
    unexplained: int
    gaps: tuple[str, ...]
    findings: tuple[Finding, ...]
    failed: tuple[str, ...]


@click.command()
@click.argument("names", nargs=-1, metavar="[MODULE]…")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the result as JSON.")
def main(names: Sequence[str], json_file: Path | None) -> None:
    """Load, use a little and unload modules again and again, and show what kleaktrace confirms of them."""
    tree = guest.tree([WIDE], say)
    plan = [list(group) for group in grouped(names or modules_of(tree))]
    say(f"{sum(map(len, plan))} modules in {len(plan)} traces, {ROUNDS} rounds each")
    for name, reason in EXCLUDED.items() if not names else ():
        say(f"without {name}: {reason}")
    (PROJECT / "build").mkdir(exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="crowd-", dir=PROJECT / "build"))
    _run(plan, directory)
    groups = [_read(number, modules, directory) for number, modules in enumerate(plan)]
    _show(Console(width=None if sys.stdout.isatty() else 160), groups)
    say(f"what kleaktrace said is in {directory}")
    if json_file is not None:
        json_file.write_text(json.dumps([asdict(group) for group in groups], indent=1) + "\n")


def say(text: str) -> None:
    """Progress."""
    print(f"crowd: {text}", file=sys.stderr, flush=True)


def _run(plan: list[list[str]], directory: Path) -> None:
    """Boot the guest until all of the plan has been tried, without the modules that it dies of."""
    (directory / "plan.json").write_text(json.dumps(plan))
    while left := sum(not (directory / f"{number}.json").exists() for number in range(len(plan))):
        command = [str(guest.TOOL), "--config", str(WIDE), "--memory", "3G", "--keep-files", "--rwdir", str(directory)]
        command += ["--timeout", str(_SECONDS_PER_GROUP * left), "--"]
        command += ["env", "PYTHONPATH=tools", ".venv/bin/python", "-m", "crowd_lib.worker", str(directory)]
        status = subprocess.run(command, cwd=PROJECT, check=False).returncode
        if status not in (0, _DIED):
            sys.exit(f"crowd: the worker in the guest ended with {status}")
        if status == _DIED and (culprit := without_culprit(plan, directory)) is not None:
            say(f"the guest died of {culprit}, or that took too long: its trace is made again without it")


def _read(number: int, modules: Sequence[str], directory: Path) -> Group:
    text = (directory / f"{number}.json").read_text()
    failures = directory / f"{number}.failed"
    failed = tuple(sorted(set(failures.read_text().splitlines()))) if failures.exists() else ()
    if not text:
        return Group(tuple(modules), "no result: the guest died", 0, 0, 0, (), (), failed)
    report = json.loads(text)
    unexplained = sum(s["verdict"] == "undecided" and s["counts_against_clean"] for s in report["suspects"])
    return Group(
        tuple(modules),
        report["verdict"],
        report["totals"]["allocations"],
        report["loss"]["events"] + report["loss"]["names"],
        unexplained,
        tuple(report["gaps"]),
        tuple(_findings(report)),
        failed,
    )


def _findings(report: Any) -> Iterator[Finding]:
    for leak in report["leaks"]:
        if not leak["hangs_on"]:
            yield Finding(
                leak["module"],
                leak["function"],
                leak["requester"],
                leak["objects"],
                leak["bytes"],
                " and ".join(leak["sources"]),
                leak.get("rounds", {}).get("per_round", 0),
                tuple(leak["stack"]),
            )


def _show(console: Console, groups: Sequence[Group]) -> None:
    table = Table("module", "requester", "for", "objects", "bytes", "a round", "confirmed by", title="confirmed")
    for group in groups:
        for one in group.findings:
            per_round = f"{one.per_round:g}" if one.per_round else ""
            table.add_row(
                *(one.module or "(kernel)", one.requester, one.function, str(one.objects), str(one.bytes)),
                *(per_round, one.sources),
            )
    console.print(table)
    for number, group in enumerate(groups):
        console.print(
            f"trace {number}: {len(group.modules)} modules, {group.allocations:,} allocations, {group.lost} lost: "
            f"{group.verdict}, {group.unexplained} unexplained" + "".join(f"; {gap}" for gap in group.gaps)
        )
        for line in group.failed:
            console.print(f"  {line}")


if __name__ == "__main__":
    main()
