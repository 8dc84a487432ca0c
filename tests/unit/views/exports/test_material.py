# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from builders import Scene, inside
from exported import A, exported, recording

from kleaktrace.core.symbols.symbol_table import Frame
from kleaktrace.views.exports.material import frame_name, module_of, names_root_first


def test_frames_are_named_by_function_and_module() -> None:
    assert frame_name(Frame(1, "f", 0x22, 0x100, "drv")) == "f [drv]"
    assert frame_name(Frame(1, "f", 0x22, 0x100)) == "f"
    assert frame_name(Frame(0xFFFFFFFFC0000000)) == "0xffffffffc0000000"
    assert frame_name(Frame(1, "a\nb\x1b", 0, 1, "m\x07")) == r"a\nb\x1b [m\x07]"


def test_an_address_without_a_name_is_in_no_module() -> None:
    assert module_of(Frame(1, "f", 0, 1, "drv")) == "[drv]"
    assert module_of(Frame(1, "f", 0, 1)) == "[kernel.kallsyms]"
    assert module_of(Frame(0xFFFFFFFFC0000000)) == ""


def test_what_an_interrupt_came_upon_is_no_root() -> None:
    scene = Scene()
    scene.names.stacks.add(8, [inside("core_alloc"), inside("handle_softirqs"), inside("kthread")])
    scene.allocate(1, A, stack=8)
    (row,) = exported(recording(scene)).rows
    assert names_root_first(row.stack) == ["handle_softirqs", "core_alloc"]
    assert len(row.stack.lines()) == 3
