# SPDX-License-Identifier: GPL-2.0-or-later
"""What is said of the chosen row."""

from __future__ import annotations

from collections.abc import Sequence

from reports import EVIL, growing_stack, judged

from kleaktrace.core.evidence.evidence import Verdict
from kleaktrace.core.evidence.lifetimes import Lifetimes
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.growth.growing_stacks import GrowingStack
from kleaktrace.core.live_table.group_details import GroupDetails
from kleaktrace.core.live_table.live_table import TableRow
from kleaktrace.core.source_lines.source_lines import SourceLine, SourceLines
from kleaktrace.views.screen.detail_text import detail_text, lifetime_line

SECOND = 1_000_000_000
ROW = TableRow(7, "drv_probe [drv]", "kmalloc-128, task, insmod", 3, 384, 1024.0, 10 * SECOND, (), False)
SIBLINGS = Siblings(10, 7, 3, 384, 0.003, (("drv_free+0x22/0x100 [drv]", 5), ("kfree_rcu+0x1/0x2", 2)))


def told(
    row: TableRow = ROW,
    sources: SourceLines = SourceLines(),  # noqa: B008
    growing: Sequence[GrowingStack] = (),
    **known: object,
) -> list[str]:
    fields = {"stack": ("drv_probe+0x22/0x100 [drv]", "do_one_initcall+0x22/0x1000"), "stacks": 1}
    fields |= {"siblings": SIBLINGS, "lifetimes": Lifetimes(), "suspects": (), "scanned": False, **known}
    return detail_text(row, GroupDetails(group=7, **fields), 30 * SECOND, growing, sources).plain.splitlines()  # type: ignore[arg-type]


def test_all_of_a_row() -> None:
    bins = ((80, 3), (88, 4))
    assert told(lifetimes=Lifetimes(7, 7e6, 5_000_000, bins)) == [
        "drv_probe [drv]: kmalloc-128, task, insmod",
        "3 outstanding (384 B), the oldest 20.0 s old, +1.0 KiB/s lately",
        "no verdict yet: s lets kmemleak scan",
        "same call stack: 7 of 10 freed, 5 of them at drv_free+0x22/0x100 [drv], median after 3 ms; "
        "3 outstanding (384 B)",
        "freed after 1 ms ▆       █ 5 ms",
        "also freed at kfree_rcu+0x1/0x2 (2)",
        "  drv_probe+0x22/0x100 [drv]",
        "  do_one_initcall+0x22/0x1000",
    ]


def test_source_lines_are_beside_their_frames() -> None:
    lines = (SourceLine("helper", "drv.h", 3, True), SourceLine("drv_probe", "drv.c", 7))
    text = told(sources=SourceLines({"drv_probe+0x22/0x100 [drv]": lines}))
    assert text[-3:-1] == ["  helper  drv.h:3 (inlined)", "  drv_probe+0x22/0x100 [drv]  drv.c:7"]


def test_what_keeps_growing_says_how_fast() -> None:
    (line,) = (line for line in told(growing=[growing_stack()]) if line.startswith("growing"))
    assert line.startswith("growing +1.2 KiB/s (95 %: 1.1 KiB to 1.3 KiB) for ")
    kept = told(growing=[growing_stack(kept="inodes")])
    assert any(line.endswith("(kept on purpose: inodes)") for line in kept)


def test_each_verdict_has_its_reasons() -> None:
    suspects = [
        judged(),
        *(judged(verdict=Verdict.UNDECIDED, reason=f"lost {number}") for number in range(5)),
        judged(verdict=Verdict.DISMISSED, reason="freed"),
    ]
    assert told(suspects=suspects, scanned=True)[2:8] == [
        "confirmed (1): not freed, and nothing has pointed to it in 3 scans",
        "undecided (5): lost 0",
        "undecided: lost 1",
        "undecided: lost 2",
        "… and 2 more reasons",
        "dismissed (1): freed",
    ]
    assert "kmemleak lists none of these" in told(scanned=True)[2]


def test_one_of_several_call_stacks_is_said_to_be() -> None:
    assert "the largest of 12 call stacks:" in told(stacks=12)
    assert "the largest of many call stacks:" in told(stacks=64)
    assert told(stack=())[-1] == "  (no stack could be taken)"


def test_nothing_from_the_kernel_reaches_the_terminal_raw() -> None:
    row = TableRow(7, EVIL, EVIL, 3, 384, None, 10 * SECOND, (), True)
    text = told(row, stack=(EVIL,), siblings=Siblings(1, 1, 0, 0, None, ((EVIL, 1), (EVIL, 1))), scanned=True)
    text += told(row, suspects=[judged(reason=EVIL)], scanned=True)
    assert all(line.isprintable() for line in text)
    assert sum("\\x1b[2J" in line for line in text) >= 6


def test_lifetimes_of_all_ages_fit_a_line() -> None:
    bins = tuple((number, 1) for number in range(256))
    assert len(lifetime_line(Lifetimes(256, 1.0, 1 << 62, bins))) < 70
    assert lifetime_line(Lifetimes(1, 5.0, 5, ((9, 1),))) == "freed after 1 µs █ 1 µs"
