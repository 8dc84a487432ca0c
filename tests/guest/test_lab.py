"""The lab keeps its word: what it calls a leak, kmemleak lists, and what it calls referenced, kmemleak does not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from guest_tool import Guest

pytestmark = pytest.mark.guest

SCRIPT = """
set -e
lab=/sys/kernel/debug/kleaktrace_lab kmemleak=/sys/kernel/debug/kmemleak
two_scans() { sleep 6; echo scan > $kmemleak; sleep 6; echo scan > $kmemleak; }
insmod "$1"
cp $lab/cases "$2/cases"
echo 3000 > /sys/module/kleaktrace_lab/parameters/late_ms
for name in leak_kzalloc_1520 leak_vmalloc_5k leak_caller_forgets_8 leak_hardirq_129 \\
    freed_at_once freed_late reuse referenced unload_forgets; do
    echo $name > $lab/do
done
! echo no_such_case > $lab/do
two_scans
cp $lab/objects "$2/objects"
cp $kmemleak "$2/loaded"
rmmod kleaktrace_lab
two_scans
cp $kmemleak "$2/unloaded"
"""


def listed(report: Path) -> set[str]:
    """Return the addresses that kmemleak lists."""
    lines = report.read_text().splitlines()
    return {line.split()[2] for line in lines if line.startswith("unreferenced object")}


def test_truth_of_every_case(guest: Guest, lab_module: Path, tmp_path: Path) -> None:
    result = guest("bash", "-c", SCRIPT, "lab", str(lab_module), str(tmp_path), rwdirs=[tmp_path])
    assert result.status == 0, result.stderr
    cases = {row[0]: row for row in map(str.split, (tmp_path / "cases").read_text().splitlines())}
    objects = [line.split() for line in (tmp_path / "objects").read_text().splitlines()]
    loaded, unloaded = listed(tmp_path / "loaded"), listed(tmp_path / "unloaded")

    assert Counter(row[0] for row in objects) == {name: int(row[4]) for name, row in cases.items()}
    for name, truth, function, _, size, state, context, _ in objects:
        assert [name, truth, function, size] == cases[name][:4]
        assert (name, context) == (name, cases[name][5])
        assert (name, state) == (name, "freed" if truth == "innocent" else "alive")
    addresses = {name: {row[3] for row in objects if row[0] == name} for name in cases}
    for name, (_, truth, *_) in cases.items():
        # Any one object may be hidden by a stale word; a whole case may not.
        assert bool(addresses[name] & loaded) == (truth == "leak"), name
        assert bool(addresses[name] & unloaded) == (truth in {"leak", "unload"}), name
    assert addresses["reuse"] == addresses["reuse_again"]
