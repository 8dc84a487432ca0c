# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re

from builders import Scene, inside
from exported import A, B, C, everything, exported, hostile, nothing, recording

from kleaktrace.views.exports.folded import export


def test_the_lines() -> None:
    assert (
        export(exported(everything()))
        == """\
(no stack could be taken) 5056
do_one_initcall;drv_probe [drv] 256
do_one_initcall;drv_probe [drv];core_alloc 128
kthread;core_alloc 7680
"""
    )


def test_nothing_outstanding_is_no_line() -> None:
    assert export(exported(nothing())) == ""


def test_a_hostile_name_makes_no_frame_and_no_line_of_its_own() -> None:
    text = export(exported(hostile()))
    assert text.count("\n") == 1
    assert text.isprintable() or text[:-1].isprintable()
    stack, size = re.fullmatch(r"(.*) (\d+)\n", text).groups()  # type: ignore[union-attr]
    assert (len(stack.split(";")), size) == (2, "128")


def test_stacks_that_differ_in_offsets_only_are_one_line() -> None:
    scene = Scene()
    scene.names.stacks.add(8, [inside("core_alloc", 0x40), inside("kthread")])
    scene.allocate(1, A, stack=3)
    scene.allocate(2, B, stack=8)
    scene.allocate(3, C, stack=2)
    scene.free(4, C)
    assert export(exported(recording(scene))) == "kthread;core_alloc 256\n"
