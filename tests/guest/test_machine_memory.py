# SPDX-License-Identifier: GPL-2.0-or-later
"""Pages that no event tells of are missed by the machine's own counters; after an innocent command nothing is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from guest_tool import Guest, GuestResult, build_module, result_of

pytestmark = pytest.mark.guest

MIB = 1 << 20
_NESTED = 4


FEW, ALL = "10", "24"
"""So many commands that leak nothing."""


@pytest.fixture(scope="module", params=[FEW, pytest.param(ALL, marks=pytest.mark.long)])
def seen(
    request: pytest.FixtureRequest,
    guest: Guest,
    kernel_tree: Path,
    lab_module: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    pages = build_module(Path(__file__).with_name("pages_module"), kernel_tree) / "pages.ko"
    out = tmp_path_factory.mktemp("machine_memory")

    def profiled(*command: str, **options: Any) -> GuestResult:
        return guest(*command, **{**options, "append": ["sysctl.vm.mem_profiling=1"], "timeout_s": 1200, "cpus": 1})

    return result_of(profiled, "machine_memory_scenario.py", out, pages, lab_module, request.param)


@pytest.mark.parametrize(
    ("leak", "size"),
    [
        ("4 MiB of single pages", 4 * MIB),
        ("2,000 single pages", 2000 * 4096),
        ("21 MB of large ones", 20 * MIB),
        ("8 MiB, still loaded", 8 * MIB),
    ],
)
def test_pages_that_are_gone_are_missed_and_their_call_site_is_named(seen: Any, leak: str, size: int) -> None:
    ((name, missing, sites),) = seen["leaks"][leak]
    assert name == "pages"
    assert abs(missing - size) < MIB
    (site,) = sites
    assert "func:take_one" in site


def test_nothing_is_missed_after_innocent_commands(seen: Any, request: pytest.FixtureRequest) -> None:
    assert str(len(seen["innocents"])) in (FEW, ALL)
    # Unloading the module that kept its pages gives none of them back, nor takes any.
    assert {name: found for name, found in seen["innocents"].items() if found} == {}


def test_what_the_table_explains_is_not_missed_and_what_it_does_not_is(seen: Any) -> None:
    # What may be lost, one in many minutes, is a free in an interrupt upon another one (test_nested.py).
    assert all("both programs" in cause and events <= _NESTED for cause, events in seen["loss"]), seen["loss"]
    assert seen["seen"] == []
    ((name, missing, sites),) = seen["unseen"]
    assert name == "slab"
    assert missing > 4 * MIB
    assert any("inode" in site for site in sites)
