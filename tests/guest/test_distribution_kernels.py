# SPDX-License-Identifier: GPL-2.0-or-later
"""Debian's own kernels, which have no kmemleak: a leak that is in each of them is convicted by repetition alone.

null_blk with poll queues, which is its default, adds the kobjects of its queues twice (block/blk-mq-sysfs.c,
`blk_mq_register_hctx`): each load leaves a hardware queue behind, and what hangs on it. With `poll_queues=0`, none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from guest_tool import run_tool
from schemas import validated

pytestmark = pytest.mark.guest

ROUNDS = 8
SCRIPT = f"""
. tests/guest/warm_kleaktrace.sh
run() {{
    name=$1; shift
    "$kleaktrace" run --no-kmemleak --repeat {ROUNDS} --json "$out/$name.json" -- \\
        sh -c "modprobe null_blk $*; rmmod null_blk" > "$out/$name.txt" 2>&1
    echo $? > "$out/$name.status"
}}
out=$1
run leaks
run clean poll_queues=0
"""


@pytest.fixture(scope="module", params=["debian12", pytest.param("debian13", marks=pytest.mark.long)])
def documents(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out: Path = tmp_path_factory.mktemp(request.param)
    options = [f"--kernel={request.param}", "--keep-files", "--cpus=1", "--timeout=600", f"--rwdir={out}"]
    done = run_tool(*options, "--", "bash", "-c", SCRIPT, "null_blk", str(out), timeout_s=1200)
    assert done.status == 0, done.stderr
    found = {name: json.loads((out / f"{name}.json").read_text()) for name in ("leaks", "clean")}
    for name, document in found.items():
        validated(document)
        document["status"] = int((out / f"{name}.status").read_text())
    return found


def test_the_leak_that_each_load_leaves_is_convicted_and_named(documents: dict[str, Any]) -> None:
    leaks = documents["leaks"]
    assert (leaks["verdict"], leaks["status"]) == ("leaks", 1)
    assert leaks["loss"]["causes"] == []
    first = leaks["leaks"][0]
    assert (first["module"], first["function"]) == ("null_blk", "null_add_dev")
    assert first["requester"] == "blk_mq_alloc_and_init_hctx"
    assert first["sources"] == ["repetition"]


def test_without_poll_queues_nothing_is_left(documents: dict[str, Any]) -> None:
    clean = documents["clean"]
    assert not [s for s in clean["suspects"] if s["verdict"] == "confirmed"]
    assert clean["loss"]["causes"] == []
    assert (clean["verdict"], clean["status"]) == ("clean", 0)
