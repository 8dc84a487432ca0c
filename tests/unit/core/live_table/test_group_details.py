# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of one row."""

from __future__ import annotations

from builders import SECOND, START_NS, Scene, suspect

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.grouping.group_labels import GroupBy
from kleaktrace.core.live_table.group_details import group_details
from kleaktrace.core.live_table.live_table import Asked, LiveTable
from kleaktrace.core.live_table.stack_verdicts import NO_VERDICTS, StackVerdicts

A = 0xFFFF888100000000


def test_siblings_lifetimes_and_suspects() -> None:
    scene = Scene()
    for number in range(5):
        scene.allocate(1, A + number * 0x1000)
    for number in range(4):
        scene.free(1.5 if number else 3, A + number * 0x1000, "core_free" if number else "drv_free")
    table = LiveTable(Asked(), scene.names)
    look = table.look(START_NS + 60 * SECOND, scene.ledger.tally())
    told = group_details(look, 0, scene.ledger, scene.names, NO_VERDICTS)
    assert told.stack == ("drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000")
    assert (told.stacks, told.suspects, told.scanned) == (1, [], False)
    assert (told.siblings.allocated, told.siblings.freed, told.siblings.outstanding) == (5, 4, 1)
    assert [count for _, count in told.siblings.free_sites] == [3, 1]
    assert told.lifetimes.freed == sum(count for _, count in told.lifetimes.bins) == 4
    listed = [suspect(1, A + 0x4000)]
    verdicts = StackVerdicts.of(scene.judge(listed, listed), scene.names, [1])
    judged = group_details(look, 0, scene.ledger, scene.names, verdicts)
    assert judged.scanned
    assert [(one.verdict, one.age_s > 0) for one in judged.suspects] == [(Verdict.CONFIRMED, True)]


def test_of_several_call_stacks_the_largest_is_told() -> None:
    scene = Scene()
    scene.allocate(1, A)
    scene.allocate(1, A + 0x1000, stack=2, bytes_alloc=4096)
    scene.allocate(1, A + 0x2000, stack=3)
    table = LiveTable(Asked(GroupBy.COMM), scene.names)
    look = table.look(START_NS + SECOND, scene.ledger.tally())
    told = group_details(look, 0, scene.ledger, scene.names, NO_VERDICTS)
    assert told.stack[0].startswith("core_alloc")
    assert (told.stacks, told.siblings.allocated) == (3, 1)


def test_a_row_that_is_empty_by_now_still_has_its_call_stack() -> None:
    scene = Scene()
    scene.allocate(1, A)
    table = LiveTable(Asked(), scene.names)
    table.look(START_NS + SECOND, scene.ledger.tally())
    scene.free(2, A)
    look = table.look(START_NS + 2 * SECOND, scene.ledger.tally())
    told = group_details(look, 0, scene.ledger, scene.names, NO_VERDICTS)
    assert (told.stack[0], told.siblings.freed) == ("drv_probe+0x22/0x100 [drv]", 1)
