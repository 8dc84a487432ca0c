# SPDX-License-Identifier: GPL-2.0-or-later
"""The report as people see it: whole texts, so that every change of a line is seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reports import EVIL, STACK, console, growing_stack, judged, printed, report

from kleaktrace.core.events.coverage import Coverage, CoverageKind
from kleaktrace.core.events.loss import Loss
from kleaktrace.core.events.records import Context
from kleaktrace.core.evidence.evidence import Freed, Rounds, Verdict
from kleaktrace.core.evidence.stack_evidence import Siblings
from kleaktrace.core.ledger.ledger import Totals
from kleaktrace.core.machine.unexplained_memory import MissingMemory, Unexplained
from kleaktrace.core.report import CommandResult, Findings, Kernel, Outcome, Report
from kleaktrace.views.terminal.report import header, show


def shown(what: Report, width: int = 100) -> str:
    screen = console(width)
    show(screen, what)
    return printed(screen)


def test_a_clean_session() -> None:
    assert shown(report()) == (
        "kernel 6.12.0 x86_64, traced for 31.5 s: 1,204 allocations, 1,180 frees, 24 outstanding (3.0 KiB)\n"
        "lost: nothing\n"
        "not covered: percpu: are not seen\n"
        "still allocated by modules: 3 objects of drv, 384 B; what of it leaks, --repeat tells\n"
        "\n"
        "clean: 0 confirmed, 0 dismissed, 0 undecided\n"
    )


def test_a_session_with_every_verdict() -> None:
    siblings = Siblings(1204, 1180, 24, 3072, 0.003, (("foo_remove+0x22/0x40 [drv]", 1000), ("other", 180)))
    leaks = [
        judged(siblings=siblings),
        judged(siblings=siblings, address=0xFFFF888100020000, size=192, age_s=23.5, bytes_req=100),
    ]
    unloaded = judged(
        source="unload",
        size=4096,
        bytes_req=4096,
        cache="kmalloc-4k",
        context=Context.HARDIRQ,
        reason="drv was unloaded 3.0 s ago, and its own code never freed this",
        stack=tuple(f"frame_{n}+0x1/0x2" for n in range(15)),
    )
    freed = judged(
        verdict=Verdict.DISMISSED,
        reason="freed 30.500 s after its allocation by core_free+0x22/0x1000",
        freed=Freed(30.5, "core_free+0x22/0x1000"),
    )
    predates = judged(
        verdict=Verdict.UNDECIDED,
        reason="allocated before tracing began; no free seen in 12 s of watching",
        age_s=4000,
        comm="softirq",
        pid=0,
        context=Context.SOFTIRQ,
        cache="",
        bytes_req=None,
        siblings=Siblings(0, 0, 0),
        stack=("0xffffffffc0100022",),
    )
    text = shown(report(suspects=[*leaks, unloaded, freed, predates], outcome=Outcome.LEAKS, gaps=["a gap"]))
    assert text.partition("not covered: percpu: are not seen\n")[2] == (
        "\n"
        "confirmed: 3 objects, 4.3 KiB\n"
        "\n"
        "  frame_0: 4096 bytes from kmalloc-4k at 0xffff888100010000\n"
        "    by hardirq on insmod (42), 21.5 s ago\n"
        "    confirmed: drv was unloaded 3.0 s ago, and its own code never freed this\n"
        "    same call stack: 0 of 1 freed; 1 outstanding (128 B)\n"
        + "".join(f"      frame_{n}+0x1/0x2\n" for n in range(12))
        + "      … 3 more\n"
        "\n"
        "  drv_probe [drv]: 2 × 128–192 bytes (100 asked for) from kmalloc-128 at 0xffff888100010000 …\n"
        "    by insmod (pid 42), 21.5 s to 23.5 s ago\n"
        "    confirmed: not freed, and nothing has pointed to it in 3 scans\n"
        "    same call stack: 1,180 of 1,204 freed, 1,000 of them at foo_remove+0x22/0x40 [drv], median after 3 ms; "
        "24 outstanding (3.0 KiB)\n"
        "    look at: paths after drv_probe that do not reach the free in foo_remove\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
        "\n"
        "dismissed: 1 object, 128 B\n"
        "\n"
        "  drv_probe [drv]: 128 bytes (100 asked for) from kmalloc-128 at 0xffff888100010000\n"
        "    by insmod (pid 42), 21.5 s ago\n"
        "    dismissed: freed 30.500 s after its allocation by core_free+0x22/0x1000\n"
        "    same call stack: 0 of 1 freed; 1 outstanding (128 B)\n"
        "      drv_probe+0x22/0x100 [drv]\n"
        "      do_one_initcall+0x22/0x1000\n"
        "\n"
        "undecided: 1 object, 128 B\n"
        "\n"
        "  unnamed code at 0xffffffffc0100022: 128 bytes at 0xffff888100010000\n"
        "    by softirq, 66 min 40 s ago\n"
        "    undecided: allocated before tracing began; no free seen in 12 s of watching\n"
        "      0xffffffffc0100022\n"
        "evidence incomplete: a gap\n"
        "\n"
        "LEAKS: 3 confirmed, 1 dismissed, 1 undecided\n"
    )


@pytest.mark.parametrize(
    ("stack", "site", "hint"),
    [
        ("drv_probe+0x22/0x100 [drv]", "drv_remove+0x40/0x50 [drv]", "that do not reach the free in drv_remove"),
        (
            "drv_probe+0x22/0x100 [drv]",
            "drv_probe+0x90/0x100 [drv]",
            "after drv_probe+0x22 that do not reach the free at",
        ),
        ("drv_probe+0x22/0x100 [drv]", "rcu_core+0x1b2/0x500", "that do not leave it to RCU (kfree_rcu, call_rcu)"),
        ("drv_probe+0x22/0x100 [drv]", "process_one_work+0x14/0x2f0", "that do not leave it to a work item that frees"),
        ("drv_probe+0x22/0x100 [drv]", "call_timer_fn+0x14/0x2f0", "that do not leave it to a timer that frees it"),
        ("nla_strdup+0x2a/0x60", "kfree_it+0x1/0x2", None),
        ("0xffffffffc0100022", "drv_remove+0x40/0x50 [drv]", None),
        ("drv_probe+0x22/0x100 [drv]", "an unknown caller", None),
    ],
)
def test_where_to_look_for_a_missed_free(stack: str, site: str, hint: str | None) -> None:
    text = shown(report(suspects=[judged(stack=(stack,), siblings=Siblings(9, 8, 1, 64, None, ((site, 8),)))]))
    assert ("look at" in text) is (hint is not None)
    assert hint is None or hint in text


def test_who_leaked_a_head_of_an_skb_that_went_round_is_not_known() -> None:
    stack = ("napi_get_frags+0x20/0x60", "drv_init+0x22/0x100 [drv]")
    freed = Siblings(9, 8, 1, 64, None, (("__netif_receive_skb_core+0x40/0x50", 8),))
    text = shown(report(suspects=[judged(stack=stack, cache="skbuff_head_cache", siblings=freed)]))
    assert "look at: whoever gets skbs from NAPI" in text
    assert "do not reach" not in text


def test_the_last_line_says_why_some_are_undecided_without_harm() -> None:
    kept = judged(verdict=Verdict.UNDECIDED, counts_against_clean=False, rule="index node")
    older = judged(verdict=Verdict.UNDECIDED, counts_against_clean=False, in_window=False)
    open_question = judged(verdict=Verdict.UNDECIDED)
    for suspects, words in (
        ([kept, kept, older], "3 undecided (2 kept on purpose, 1 from before)\n"),
        ([older], "1 undecided (from before)\n"),
        ([kept, open_question], "2 undecided (1 kept on purpose)\n"),
        ([open_question], "1 undecided\n"),
    ):
        assert shown(report(suspects=[judged(), *suspects], outcome=Outcome.LEAKS)).endswith(words)


def test_everything_that_was_missed_is_in_the_header() -> None:
    screen = console()
    header(
        screen,
        report(
            loss=Loss(events=1, stacks=2, names=3),
            totals=Totals(1, 0, 1, 128, 5, 7, 0),
            coverage=[Coverage("kfree", "x"), Coverage("vfree", None, "vmalloc frees are not seen")],
            command=CommandResult(("false",), 1),
        ),
    )
    assert printed(screen) == (
        "kernel 6.12.0 x86_64, traced for 31.5 s: 1 allocation, 0 frees, 1 outstanding (128 B)\n"
        "lost: 1 event\n"
        "  5 frees not seen, but implied by reuse of the memory\n"
        "  2 stacks could not be taken\n"
        "  3 names lost\n"
        "not covered: vfree: vmalloc frees are not seen\n"
        "the command failed: exit status 1\n"
    )


@pytest.mark.parametrize(
    ("status", "line"),
    [(0, None), (3, "the command failed: exit status 3"), (-9, "the command failed: killed by signal 9")],
)
def test_how_the_command_ended(status: int, line: str | None) -> None:
    lines = shown(report(command=CommandResult(("x",), status))).splitlines()
    assert [text for text in lines if text.startswith("the command")] == ([line] if line else [])


def test_an_incomplete_session_says_that_nothing_is_proven() -> None:
    text = shown(report(outcome=Outcome.INCOMPLETE, gaps=["5 events were lost", "scans were interrupted"]))
    assert text.endswith(
        "evidence incomplete: 5 events were lost\n"
        "evidence incomplete: scans were interrupted\n"
        "\n"
        "incomplete: 0 confirmed, 0 dismissed, 0 undecided; nothing is confirmed, but not everything could be seen\n"
    )


def test_of_very_many_call_stacks_the_largest_are_shown_and_the_rest_counted() -> None:
    text = shown(report(suspects=[judged(size=n, stack=(f"f{n}+0x1/0x2",)) for n in range(1, 31)]))
    assert "f30+0x1" in text
    assert "f11+0x1" in text
    assert "f10+0x1" not in text
    assert "  … and 10 more call stacks (--json has all)\n" in text


def test_lines_are_whole_on_a_narrow_screen() -> None:
    assert shown(report(suspects=[judged()]), width=20) == shown(report(suspects=[judged()]), width=200)


def test_nothing_from_the_kernel_reaches_the_terminal_raw() -> None:
    text = shown(
        report(
            kernel=Kernel(f"6.12{EVIL}", f"x86{EVIL}"),
            suspects=[
                judged(
                    comm=EVIL,
                    cache=EVIL,
                    reason=EVIL,
                    stack=(EVIL,),
                    siblings=Siblings(2, 1, 1, 8, 1.0, ((f"{EVIL}+0x22/0x40", 1),)),
                )
            ],
            coverage=[Coverage(EVIL, None, EVIL)],
            gaps=[EVIL],
        )
    )
    assert "    by \\x1b[2J\\x1b]0;owned\\x07 (pid 42), 21.5 s ago\n" in text
    assert text.count("\\x1b[2J") == 14
    assert all(line.isprintable() for line in text.split("\n"))


@given(st.text(st.characters(), max_size=20))
def test_markup_in_a_name_is_only_text(comm: str) -> None:
    text = shown(report(suspects=[judged(comm=f"[bold]{comm}[/] :smile:")]))
    assert "by [bold]" in text
    assert "[/] :smile: (pid 42)" in text
    assert all(line.isprintable() for line in text.split("\n"))


def test_the_report_begins_with_one_line_for_each_leak() -> None:
    other_place = ("drv_probe+0x99/0x100 [drv]", *STACK.lines()[1:])
    by_core = ("core_alloc+0x22/0x1000", *STACK.lines())
    text = shown(
        report(
            suspects=[
                judged(),
                judged(stack=other_place, size=1024),
                *[judged(stack=by_core, size=64, source="repetition", rounds=Rounds(9, 9, 2)) for _ in range(20)],
                judged(verdict=Verdict.UNDECIDED, counts_against_clean=False, rule="index node"),
            ],
            outcome=Outcome.LEAKS,
        )
    )
    assert text.splitlines()[:2] == [
        "LEAK drv: core_alloc, for drv_probe: 20 objects, 1.2 KiB, 2 per round (128 B): confirmed by repetition",
        "LEAK drv: drv_probe: 2 objects, 1.1 KiB, at 2 places: confirmed by kmemleak",
    ]
    assert "kept on purpose, says nothing: 1 object (1 index node)" in text
    assert text.endswith("LEAKS: 22 confirmed, 0 dismissed, 1 undecided (kept on purpose)\n")


def test_figures_of_rounds_that_not_all_places_have_are_the_least_there_can_be() -> None:
    """Of what core code keeps for whoever asks, rounds tell nothing."""
    by_core = ("__alloc_skb+0x22/0x1000", *STACK.lines())
    suspects = [judged(size=64, rounds=Rounds(9, 9, 1)), judged(stack=by_core, size=208)]
    first = shown(report(suspects=suspects, outcome=Outcome.LEAKS)).splitlines()[0]
    assert (
        first
        == "LEAK drv: drv_probe: 2 objects, 272 B, at 2 places, at least 1 per round (64 B): confirmed by kmemleak"
    )


@pytest.mark.parametrize("traced", [False, True])
def test_pages_that_are_gone_may_be_asked_for_by_name(traced: bool) -> None:
    gone = Unexplained(MissingMemory.PAGES, 21 << 20, "of pages are gone")
    coverage = [Coverage(CoverageKind.PAGES, "raw_tracepoint:mm_page_alloc")] if traced else []
    text = shown(report(findings=Findings(missing=[gone]), coverage=coverage, outcome=Outcome.INCOMPLETE))
    assert "memory is missing: 21 MiB of pages are gone" in text
    assert ("kleaktrace run --pages" in text) is not traced


def test_what_grows_but_is_kept_on_purpose_is_told_with_the_commonest_reasons() -> None:
    kept = [replace(growing_stack(), kept=reason) for reason in ("cached", "pooled", "pooled", "mapped")]
    assert "growing, but kept on purpose: 4 call stacks, " in shown(report(growing_kept=kept))
    assert " (pooled; cached; …)\n" in shown(report(growing_kept=kept))


def test_what_stands_in_the_way_of_clean_is_said_with_what_would_decide_it() -> None:
    incomplete = report(
        suspects=[judged(verdict=Verdict.UNDECIDED, rule="unloaded module")],
        growing=[growing_stack()],
        outcome=Outcome.INCOMPLETE,
        command=CommandResult(("x",), 0),
    )
    text = shown(incomplete)
    rounds = shown(replace(incomplete, command=CommandResult(("x",), 0, runs=8)))
    assert "to decide it" not in rounds, "there have been rounds"
    assert text.endswith(
        "incomplete: 0 confirmed, 0 dismissed, 1 undecided; nothing is confirmed, but 1 object of the window is not "
        "explained, 1 call stack kept growing\n"
        "  to decide it: kleaktrace run --repeat 10 -- CMD (CMD must undo what it does)\n"
    )
