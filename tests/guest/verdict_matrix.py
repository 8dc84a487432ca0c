# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's verdict matrix: each case, the truth, what kmemleak alone says, and what kleaktrace says.

    tools/lab [--runs N] [OPTION OF tools/guest…]

boots a guest N times (once by default; `--kernel 6.1`, `--arch arm64`: another one), runs every case of the lab, once
with the module left loaded and once with it unloaded at the end, and prints the matrix. The exit status is 1 if a
verdict is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guest_tool import PROJECT, WITHOUT_SOURCE_LINES, build_module, built_tree, run_tool
from lab_books import Object, listed

SCENARIO = """
lab=/sys/kernel/debug/kleaktrace_lab
cat > /tmp/all.sh <<'X'
lab=/sys/kernel/debug/kleaktrace_lab
for name in ${2:-$(cut -f1 $lab/cases)}; do
	echo $name > $lab/do
done 2> /dev/null
sleep 2
cp $lab/objects $1
X
insmod=" late_ms=3000 between_scans_ms=4000 hidden_ms=12000"
.venv/bin/kleaktrace run --json "$2/loaded.json" --capture "$2/loaded.capture" -- sh -c "insmod $1 $insmod
	sh /tmp/all.sh $2/loaded.objects '$3'" > "$2/loaded.txt" 2>&1
cp /sys/kernel/debug/kmemleak "$2/loaded.kmemleak"
.venv/bin/kleaktrace run --json "$2/unloaded.json" --capture "$2/unloaded.capture" -- sh -c "rmmod kleaktrace_lab
	insmod $1 $insmod; sh /tmp/all.sh $2/unloaded.objects '$3'; sleep 3; rmmod kleaktrace_lab" > "$2/unloaded.txt" 2>&1
cp /sys/kernel/debug/kmemleak "$2/unloaded.kmemleak"
"""

# What must be confirmed, with the module loaded and after it was unloaded.
LEAKED = {"loaded": {"leak"}, "unloaded": {"leak", "unload", "unload_referenced"}}
# What kernel code allocated on behalf of a module that is gone: nobody can tell whether the kernel still needs it.
UNDECIDED = {"unload_core"}


@dataclass
class Row:
    """One case in one phase: how many objects kmemleak listed, and the verdicts on them."""

    truth: str
    objects: int = 0
    listed: int = 0
    named: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)

    @property
    def unjudged(self) -> int:
        """Objects on which there is no verdict."""
        return self.objects - self.verdicts.total()


@dataclass(frozen=True)
class Phase:
    """The module left loaded, or unloaded at the end."""

    name: str
    outcome: str
    lost: int
    rows: dict[tuple[str, str], Row]
    reasons: Counter[str]
    """Why objects are undecided."""
    compared: int
    """Stacks of verdicts that kmemleak names, too."""
    unlike: list[str]
    """Those of them that do not begin as kmemleak's does, which ends where an interrupt began."""

    def _all(self, leaked: bool) -> Iterable[tuple[str, Row]]:
        wanted = LEAKED[self.name]
        return ((case, row) for (case, truth), row in self.rows.items() if (truth in wanted) is leaked)

    @property
    def wrong(self) -> list[str]:
        """Cases with an innocent confirmed, or a leak dismissed."""
        innocent = [
            f"{case}: {row.verdicts['confirmed']} confirmed"
            for case, row in self._all(False)
            if row.verdicts["confirmed"]
        ]
        leaked = [
            f"{case}: {row.verdicts['dismissed']} dismissed"
            for case, row in self._all(True)
            if row.verdicts["dismissed"]
        ]
        return innocent + leaked

    @property
    def missed(self) -> list[str]:
        """Kinds of leak of which none is confirmed, and named by a function of the lab."""
        return [case for case, row in self._all(True) if not min(row.verdicts["confirmed"], row.named)]

    @property
    def kinds(self) -> int:
        """Kinds of leak there are."""
        return sum(1 for _ in self._all(True))

    @property
    def undecided(self) -> float:
        """The share of verdicts that are undecided, where the rules allow another verdict (see `UNDECIDED`)."""
        verdicts = sum((row.verdicts for row in self.rows.values() if row.truth not in UNDECIDED), Counter())
        return verdicts["undecided"] / max(verdicts.total(), 1)

    @property
    def summary(self) -> dict[str, Any]:
        """What matters, as plain values."""
        return {
            "kinds": self.kinds,
            "found": self.kinds - len(self.missed),
            "missed": self.missed,
            "wrong": self.wrong,
            "undecided": self.undecided,
            "lost": self.lost,
        }


def read_phase(directory: Path, phase: str) -> Phase:
    """Compare the verdicts of a phase with the truth of the objects, as the lab booked them."""
    text = (directory / f"{phase}.json").read_text()
    if not text:
        printed = " ".join((directory / f"{phase}.txt").read_text().split())  # one line: more is not shown of an error
        raise RuntimeError(f"no document for {phase}; it printed: {printed}")
    document = json.loads(text)
    by_kmemleak = listed(directory / f"{phase}.kmemleak")
    owners = {row.address: row for row in sorted(Object.read(directory / f"{phase}.objects"), key=_allocated)}
    suspects = {int(s["address"], 16): s for s in document["suspects"] if s["in_window"]}
    reasons: Counter[str] = Counter()
    rows: dict[tuple[str, str], Row] = {}
    stacks: list[tuple[list[str], list[str]]] = []
    for address, owner in owners.items():
        row = rows.setdefault((owner.case, owner.truth), Row(owner.truth))
        row.objects += 1
        row.listed += address in by_kmemleak
        if address in suspects and _is_about(suspects[address], owner):
            if suspects[address]["verdict"] == "undecided":
                reasons[f"{owner.case}: {suspects[address]['reason']}"] += 1
            row.verdicts[suspects[address]["verdict"]] += 1
            if by_kmemleak.get(address):
                stacks.append((suspects[address]["stack"], by_kmemleak[address]))
            row.named += any(line.startswith("lab_") for line in suspects[address]["stack"])
    unlike = [f"{ours} is not {theirs}" for ours, theirs in stacks if not _begins_as(ours, theirs)]
    return Phase(phase, document["verdict"], document["loss"]["events"], rows, reasons, len(stacks), unlike)


def _begins_as(ours: list[str], theirs: list[str]) -> bool:
    """Whether theirs is how ours begins, without the functions of the allocator in front."""
    return any(theirs[skip:] == ours[: len(theirs) - skip] for skip in range(len(theirs)))


def _is_about(suspect: dict[str, Any], owner: Object) -> bool:
    """Whether it is about this object, and not about what others have made of its memory after it was freed."""
    return not owner.freed or any(line.partition("+")[0] == owner.function for line in suspect["stack"])


def _allocated(row: Object) -> int:
    return row.allocated_ns


def run(directory: Path, options: Sequence[str] = (), cases: Sequence[str] = ()) -> list[Phase]:
    """Boot the guest that these options of tools/guest ask for once, run the cases (none: all), and compare."""
    module = build_module(PROJECT / "tests" / "lab", built_tree(options)) / "kleaktrace_lab.ko"
    result = run_tool(
        *options,
        "--keep-files",
        "--timeout=900",
        f"--rwdir={directory}",
        "--",
        *WITHOUT_SOURCE_LINES,
        "bash",
        "-c",
        SCENARIO,
        "lab",
        str(module),
        str(directory),
        " ".join(cases),
        timeout_s=1000,
    )
    if result.status == 255:
        raise RuntimeError(f"the guest died:\n{result.stderr}")
    return [read_phase(directory, "loaded"), read_phase(directory, "unloaded")]


def show(phases: Sequence[Phase]) -> None:
    """Print the matrix."""
    form = "{:24} {:18} {:>7} {:>9} {:>10} {:>10} {:>10} {:>9}"
    for phase in phases:
        print(f"\n{phase.name}: verdict {phase.outcome}, {phase.lost} events lost")
        print(form.format(*["case", "truth", "objects", "kmemleak", "confirmed", "dismissed", "undecided", "unjudged"]))
        for (case, truth), row in phase.rows.items():
            v = row.verdicts
            print(
                form.format(
                    case, truth, row.objects, row.listed, v["confirmed"], v["dismissed"], v["undecided"], row.unjudged
                )
            )
        print(f"stacks unlike kmemleak's own: {len(phase.unlike)} of {phase.compared}")
        print(f"wrong: {', '.join(phase.wrong) or 'none'}")
        print(
            f"kinds of leak found and named: {phase.kinds - len(phase.missed)} of {phase.kinds}"
            + (f" (missed: {', '.join(phase.missed)})" if phase.missed else "")
        )
        for reason, count in phase.reasons.items():
            print(f"undecided: {count} × {reason}")
        print(f"undecided: {phase.undecided:.1%}, without {', '.join(sorted(UNDECIDED))}")


def main() -> None:
    """Run as often as asked."""
    parser = argparse.ArgumentParser(prog="tools/lab", description=__doc__)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--json", type=Path, help="where to write what the last run has shown")
    arguments, options = parser.parse_known_args()
    wrong, runs, phases = False, arguments.runs, list[Phase]()
    for number in range(runs):
        print(f"run {number + 1} of {runs}", flush=True)
        with tempfile.TemporaryDirectory(dir=PROJECT / "build") as directory:
            phases = run(Path(directory), options)
        show(phases)
        wrong |= any(phase.wrong for phase in phases)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({phase.name: phase.summary for phase in phases}))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
