# SPDX-License-Identifier: GPL-2.0-or-later
"""Modules of the kernel's own that come and go in the standard guest; `tools/crowd` shows far more, in the wide one.

null_blk is no test driver: with poll queues, its default, each load of it leaves a hardware queue behind that the
kernel still points to. blk_mq_register_hctx adds the kobject of each software queue once for each map of queues that
it is in, and the first parent's reference is never dropped (block/blk-mq-sysfs.c, Linux 6.12).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from guest_tool import PROJECT, Guest
from schemas import validated

sys.path.insert(0, str(PROJECT / "tools"))

from museum_lib.build import built
from museum_lib.piece import Module

pytestmark = [pytest.mark.guest, pytest.mark.long]

NULL_BLK = (
    Module("fs/configfs/configfs", ("CONFIG_CONFIGFS_FS",)),
    Module("drivers/block/null_blk/null_blk", ("CONFIG_BLK_DEV_NULL_BLK",)),
)
INNOCENT = (
    Module("drivers/net/dummy", ("CONFIG_DUMMY",)),
    Module("drivers/net/macvlan", ("CONFIG_MACVLAN",)),
    Module("drivers/net/veth", ("CONFIG_VETH",)),
    Module("drivers/block/brd", ("CONFIG_BLK_DEV_RAM", "CONFIG_BLK_DEV_RAM_COUNT=2", "CONFIG_BLK_DEV_RAM_SIZE=1024")),
    Module("fs/nls/nls_iso8859-1", ("CONFIG_NLS_ISO8859_1",)),
)
LOADS = 8

SCRIPT = """
. tests/guest/warm_kleaktrace.sh
out=$1 configfs=$2 null_blk=$3
shift 3
insmod "$configfs"
step() {
    name=$1
    shift
    "$kleaktrace" run --json "$out/$name.json" "$@" > "$out/$name.txt" 2>&1
    echo $? > "$out/$name.status"
}
step poll_queues -- bash -c "for i in {1..8}; do insmod $null_blk; rmmod null_blk; done"
step no_poll_queues -- bash -c "for i in {1..8}; do insmod $null_blk poll_queues=0; rmmod null_blk; done"
cat > /tmp/round <<'X'
for module in "$@"; do insmod "$module"; done
ip link set dummy0 up
ip link add link dummy0 name kt2 type macvlan
ip link set kt2 up
ip link add name kt0 type veth peer name kt1
ip link set kt0 up
dd if=/dev/zero of=/dev/ram0 bs=4k count=16 2> /dev/null
dd if=/dev/ram0 of=/dev/null bs=4k count=16 2> /dev/null
ip link del kt0
ip link del kt2
for module in "$@"; do rmmod "$(basename "$module" .ko | tr - _)"; done
X
step innocent --repeat 8 -- bash /tmp/round "$@"
"""


class Seen:
    """What one boot has brought, step by step."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def json(self, step: str) -> Any:
        return validated(json.loads((self._out / f"{step}.json").read_text() or self.text(step)))

    def text(self, step: str) -> str:
        return (self._out / f"{step}.txt").read_text()

    def status(self, step: str) -> int:
        return int((self._out / f"{step}.status").read_text())


@pytest.fixture(scope="module")
def seen(guest: Guest, kernel_tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    out = tmp_path_factory.mktemp("crowd")
    files = {**built(kernel_tree, NULL_BLK, (), print), **built(kernel_tree, INNOCENT, (), print)}
    for name, file in files.items():
        (out / f"{name}.ko").write_bytes(file.read_bytes())
    loaded = [str(out / f"{module.name}.ko") for module in (*NULL_BLK, *INNOCENT)]
    result = guest("bash", "-c", SCRIPT, "crowd", str(out), *loaded, rwdirs=[out], timeout_s=900, cpus=1)
    assert result.status == 0, result.stderr
    return Seen(out)


def test_a_true_leak_of_the_kernel_is_confirmed_by_its_loads(seen: Seen) -> None:
    report = seen.json("poll_queues")
    assert (seen.status("poll_queues"), report["verdict"]) == (1, "leaks")
    first = report["leaks"][0]
    assert (first["module"], first["requester"], first["function"]) == (
        "null_blk",
        "blk_mq_alloc_and_init_hctx",
        "null_add_dev",
    )
    assert (first["objects"], first["sources"]) == (LOADS, ["repetition"])
    assert first["rounds"] == {"total": LOADS - 1, "grew_in": LOADS - 1, "per_round": 1}
    first_line = next(line for line in seen.text("poll_queues").splitlines() if line.startswith("LEAK"))
    assert first_line.startswith("LEAK null_blk: blk_mq_alloc_and_init_hctx, for null_add_dev: 8 objects")
    assert "1 per round" in first_line


def test_the_same_module_without_the_leak_is_clean(seen: Seen) -> None:
    report = seen.json("no_poll_queues")
    assert [s for s in report["suspects"] if s["verdict"] == "confirmed"] == []
    assert (seen.status("no_poll_queues"), report["verdict"]) == (0, "clean"), seen.text("no_poll_queues")


def test_ordinary_modules_that_come_and_go_are_not_called_leaks(seen: Seen) -> None:
    report = seen.json("innocent")
    assert report["loss"]["names"] == report["loss"]["events"] == 0
    assert [s for s in report["suspects"] if s["verdict"] == "confirmed"] == [], seen.text("innocent")
    assert (seen.status("innocent"), report["verdict"]) == (0, "clean"), seen.text("innocent")
