# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import DRIVER, inside
from exported import everything, exported
from readers import Written, pprof, pprof_top

from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.views.exports.pprof import export

pytestmark = pytest.mark.formats


def test_what_is_in_use_is_shown_first(written: Written) -> None:
    assert pprof_top(written("everything", "pprof")) == {
        "core_alloc": ("7808B", "7808B"),
        "(no stack could be taken)": ("5056B", "5056B"),
        "drv_probe [drv]": ("256B", "384B"),
        "do_one_initcall": ("0", "384B"),
        "kthread": ("0", "7680B"),
    }


def test_the_other_values(written: Written) -> None:
    profile = written("everything", "pprof")
    assert pprof_top(profile, "-sample_index=alloc_space")["drv_probe [drv]"] == ("576B", "704B")
    assert pprof_top(profile, "-sample_index=inuse_objects")["core_alloc"] == ("61B", "61B")
    assert pprof_top(profile, "-sample_index=alloc_objects")["drv_probe [drv]"] == ("3B", "4B")


def test_labels_choose_leaks_and_caches(written: Written) -> None:
    profile = written("everything", "pprof")
    assert set(pprof_top(profile, "-tagfocus=verdict=confirmed")) == {"drv_probe [drv]", "do_one_initcall"}
    assert set(pprof_top(profile, "-tagfocus=cache=kmalloc-4k")) == {"(no stack could be taken)"}


def test_addresses_and_mappings(written: Written) -> None:
    raw = pprof(written("everything", "pprof"), "-raw")
    assert f"{inside('drv_probe') - 1:#x} M=2 drv_probe [drv]" in raw
    assert f"{inside('kthread') - 1:#x} M=1 kthread" in raw
    assert re.search(r"^1: 0xffffffff81\w+/0xffffffff81\w+/0x0 \[kernel.kallsyms\]  \[FN\]$", raw, re.MULTILINE)
    assert "Time: 2026-01-01 00:00:00 +0000 UTC" in raw
    assert "Duration: 1m0s" in raw


def test_nothing_and_more_than_there_can_be(written: Written) -> None:
    assert pprof_top(written("nothing", "pprof")) == {}
    assert set(pprof_top(written("huge", "pprof"))) == {"drv_probe [drv]", "do_one_initcall"}


def test_hostile_names(written: Written) -> None:
    raw = pprof(written("hostile", "pprof"), "-raw")
    assert r"a;b#c" in raw
    assert raw.replace("\n", "").isprintable()


def test_source_lines_and_inlined_functions(tmp_path: Path) -> None:
    made = exported(everything())
    probe = f"drv_probe+{inside('drv_probe') - DRIVER:#x}/0x100 [drv]"
    lines = (SourceLine("drv_get", "drivers/drv.h", 6, True), SourceLine("drv_probe", "drivers/drv.c", 12))
    report = replace(made.report, source_lines=SourceLines({probe: lines}))
    (tmp_path / "profile").write_bytes(export(replace(made, report=report)))
    raw = pprof(tmp_path / "profile", "-raw")
    assert re.search(r"M=2 drv_get \[drv\] drivers/drv.h:6(:0)? s=0", raw)
    assert re.search(r"^\s+drv_probe \[drv\] drivers/drv.c:12(:0)? s=0", raw, re.MULTILINE)
    shown = pprof_top(tmp_path / "profile")
    assert shown["drv_get [drv] (inline)"] == ("256B", "384B")
    assert shown["drv_probe [drv]"] == ("0", "384B")
