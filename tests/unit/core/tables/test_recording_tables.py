# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import DRIVER, START_NS, Scene, inside, module_image
from exported import MANY, A, B, everything, hostile, huge, nothing, recording, with_losses

from kleaktrace.core.growth.level_history import LevelHistory
from kleaktrace.core.recording import Recording
from kleaktrace.core.tables.recording_tables import recording_tables
from kleaktrace.core.tables.table import ColumnType, integers, lists, optional_integers, reals


def tables(made: Recording) -> dict[str, list[dict[str, Any]]]:
    """The rows of each table as plain values."""
    found = {}
    for table in recording_tables(made, made.report(made.judge())):
        columns = [column.values.tolist() for column in table.columns.values()]
        found[table.name] = [dict(zip(table.columns, row, strict=True)) for row in zip(*columns, strict=True)]
    return found


def test_the_counters_begin_with_the_first_byte() -> None:
    scene, history = Scene(), LevelHistory()
    history.sample(START_NS, scene.ledger.snapshot())
    scene.allocate(0.5, A)
    history.sample(START_NS + 1_000_000_000, scene.ledger.snapshot())
    scene.allocate(1.5, B, stack=3)
    scene.free(1.6, A)
    history.sample(START_NS + 2_000_000_000, scene.ledger.snapshot())
    found = tables(recording(scene, history=history))
    names = {row["key"]: row["function"] for row in found["stacks"]}
    assert sorted(
        (names[row["key"]], row["sampled_at"].second, row["outstanding_bytes"]) for row in found["counters"]
    ) == [
        ("core_alloc", 2, 128),
        ("drv_probe", 1, 128),
        ("drv_probe", 2, 0),
    ]


def test_the_oldest_allocation_comes_first_and_nothing_is_left_out() -> None:
    found = tables(everything())["outstanding"]
    assert len(found) == 64
    assert found[0] | {"key": ""} == {
        "key": "",
        "address": f"{MANY:#x}",
        "allocated_at": found[0]["allocated_at"],
        "age_s": 60.0,
        "bytes": 128,
        "bytes_asked_for": 100,
        "cache": "kmalloc-128",
        "allocator": "kmalloc",
        "context": "task",
        "comm": "insmod",
        "pid": 42,
        "tid": 42,
        "cpu": 0,
        "cgroup": 0,
        "gfp_flags": 0,
    }
    assert found[0]["allocated_at"].isoformat() == "2026-01-01T00:00:00"
    assert [row["age_s"] for row in found] == sorted((row["age_s"] for row in found), reverse=True)


def test_the_tables_fit_together_by_key() -> None:
    found = tables(everything())
    held: dict[str, int] = {}
    for row in found["outstanding"]:
        held[row["key"]] = held.get(row["key"], 0) + row["bytes"]
    assert held == {row["key"]: row["outstanding_bytes"] for row in found["stacks"]}
    freed = {row["key"]: row["frees"] for row in found["lifetimes"]}
    assert freed == {row["key"]: row["frees"] for row in found["stacks"] if row["frees"]}
    assert {row["key"] for row in found["suspects"]} <= held.keys()
    assert {row["key"] for row in found["counters"]} <= held.keys()


def test_a_module_that_came_again_elsewhere_has_one_line_of_lifetimes() -> None:
    scene = Scene()
    for at in (1, 3):
        scene.allocate(at, A)
        scene.free(at + 1, A)
    scene.unload(5)
    scene.names.symbols.module_loaded(module_image(base=DRIVER + 0x100000, key=0xFFFFFFFFC0400000))
    scene.names.stacks.add(9, [inside("__kmalloc_noprof"), DRIVER + 0x100022, inside("do_one_initcall")])
    scene.allocate(6, B, stack=9)
    scene.free(7, B, site="kfree")
    found = tables(recording(scene))
    assert [row["frees"] for row in found["lifetimes"]] == [3]
    assert [(row["free_site"], row["free_site_frees"]) for row in found["stacks"]] == [("core_free+0x22/0x1000", 2)]


def test_loss_and_the_recording_itself() -> None:
    found = tables(with_losses())
    (loss,) = found["loss"]
    assert (loss["from_at"].second, loss["to_at"].second, loss["events"], loss["frees"]) == (1, 2, 7, None)
    (machine,) = found["machine"]
    assert (machine["verdict"], machine["lost_events"], machine["lost_stacks"]) == ("incomplete", 7, 2)
    assert tables(everything())["machine"][0]["missing_bytes"] == 20 << 20


@pytest.mark.parametrize("made", [nothing, hostile, huge])
def test_columns_have_the_same_length_and_numbers_are_signed(made: Any) -> None:
    known = made()
    for table in recording_tables(known, known.report(known.judge())):
        assert len({column.values.size for column in table.columns.values()}) == 1, table.name
        for column in table.columns.values():
            if column.type is ColumnType.INTEGER and column.values.dtype != object:
                assert column.values.dtype == np.int64
                assert (column.values >= 0).all()


def test_columns() -> None:
    assert integers([1, (1 << 64) - 1]).values.tolist() == [1, (1 << 63) - 1]
    assert optional_integers([None, 1 << 70]).values.tolist() == [None, (1 << 63) - 1]
    assert lists([("a",), ("b",)]).values.tolist() == [["a"], ["b"]], "lists of the same length are no matrix"
    assert np.isnan(reals([np.inf]).values).all()
