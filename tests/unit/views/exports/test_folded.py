# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re

from exported import everything, exported, hostile, nothing

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
